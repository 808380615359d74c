() => {
  // Gradio replaces the page's elements at every update, so the listeners are attached to the document.
  document.documentElement.lang = "en";

  // The fields of a method's settings write what differs from the defaults into the text field that the server reads.
  const writeSettings = (form) => {
    const changed = [...form.querySelectorAll("[data-name]")].filter(
      (field) => field.value !== "" && field.value !== field.dataset.default);
    const text = document.querySelector("#" + form.dataset.for + " textarea, #" + form.dataset.for + " input");
    text.value = changed.map((field) => field.dataset.name + "=" + field.value).join(", ");
    text.dispatchEvent(new Event("input", { bubbles: true }));
  };

  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.matches(".at input")) field.closest(".stage").style.setProperty("--at", field.value + "%");
    if (field.matches(".show-boxes")) field.closest(".stage").classList.toggle("bare", !field.checked);
    if (field.matches(".show-slider")) field.closest(".stage").classList.toggle("over", field.checked);
    if (field.matches(".show-large")) field.closest(".stage").classList.toggle("large", field.checked);
    if (field.dataset.name) writeSettings(field.closest(".settings"));
  });

  // On a phone the image is below the controls.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#go, .examples button, #next button, #edit, .count button, #learn, #start-counting");
    if (!button || window.innerWidth > 640) return;
    const places = { learn: "#learning", "start-counting": "#question", edit: "#editing", change: "#editing" };
    const shown = button.closest(".count") ? "#editing" : places[button.id] || "#stage";
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
