() => {
  // The page's own pictures are replaced while it works, so listeners sit on the document.
  document.documentElement.lang = "en";

  document.addEventListener("input", (event) => {
    if (event.target.matches(".compare input[type=range]")) {
      event.target.closest(".compare").style.setProperty("--at", event.target.value + "%");
    }
    if (event.target.matches(".show-boxes")) {
      event.target.closest(".stage").classList.toggle("bare", !event.target.checked);
    }
  });

  // On a phone the picture lies below the controls.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#go, .examples button, #learn");
    if (!button || window.innerWidth > 640) return;
    document.querySelector(button.id === "learn" ? "#learning" : "#stage").scrollIntoView({ behavior: "smooth" });
  });

  // While people count, a digit goes to the answer wherever the focus is.
  document.addEventListener("keydown", (event) => {
    const answer = document.querySelector("#answer input, #answer textarea");
    if (!answer || !answer.offsetParent || event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
    if (/^[0-9]$/.test(event.key)) answer.focus();
  });
}
