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
    if (field.dataset.name) writeSettings(field.closest(".settings"));
  });

  // An image is shown as large as the window; Escape, Enter or a click brings the page back.
  document.addEventListener("click", (event) => {
    const image = event.target.closest("button.canvas");
    if (!image || image.closest("dialog")) return;
    const dialog = document.createElement("dialog");
    dialog.className = "zoomed";
    dialog.setAttribute("aria-label", image.querySelector("img").alt);
    dialog.style.setProperty("--ratio", image.clientWidth / image.clientHeight);
    const copy = dialog.appendChild(image.cloneNode(true));
    copy.title = "Back";
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => { dialog.remove(); image.focus(); });
    image.closest(".stage").append(dialog);
    dialog.showModal();
  });

  // A file that is dropped beside its field goes to the field of the open tab; the browser would leave the page.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (event.target.closest(".file")) return;
    event.preventDefault();
    const field = [...document.querySelectorAll(".file")].find((one) => one.offsetParent);
    if (field) field.dispatchEvent(new DragEvent("drop", { dataTransfer: event.dataTransfer, bubbles: true }));
  });

  // On a phone the image is below the prompt.
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
