() => {
  // Gradio replaces the page's elements at every update, so the listeners are attached to the document.
  document.documentElement.lang = "en";

  document.addEventListener("input", (event) => {
    if (event.target.matches(".compare input[type=range]")) {
      event.target.closest(".compare").style.setProperty("--at", event.target.value + "%");
    }
    if (event.target.matches(".show-boxes")) {
      event.target.closest(".stage").classList.toggle("bare", !event.target.checked);
    }
  });

  // On a phone the image is below the controls.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#go, .examples button, #learn, #start-counting");
    if (!button || window.innerWidth > 640) return;
    const shown = { learn: "#learning", "start-counting": "#question" }[button.id] || "#stage";
    document.querySelector(shown).scrollIntoView({ behavior: "smooth" });
  });

  // Make phones show a numeric keyboard for the answer, which Gradio inserts when labelling begins.
  new MutationObserver(() => {
    const answer = document.querySelector("#answer input, #answer textarea");
    if (answer) answer.inputMode = "numeric";
  }).observe(document.body, { childList: true, subtree: true });

  // During labelling, typing a digit moves the focus to the answer.
  document.addEventListener("keydown", (event) => {
    const answer = document.querySelector("#answer input, #answer textarea");
    if (!answer || !answer.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
    if (/^[0-9]$/.test(event.key)) answer.focus();
  });
}
