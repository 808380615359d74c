() => {
  document.documentElement.lang = "en";
  // Gradio's images are buttons without a name.
  const nameImages = () => document.querySelectorAll(".image-container > button:not([aria-label])").forEach((button) => {
    button.ariaLabel = button.closest(".block").querySelector("label")?.textContent || "Image";
  });
  nameImages();
  new MutationObserver(nameImages).observe(document.body, { childList: true, subtree: true });
  // A file that is dropped beside its field goes to the field of the open page; the browser would leave the page.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const inputs = [...document.querySelectorAll("input[type=file]")];
    const input = inputs.find((one) => one.parentElement.offsetParent);
    if (!input || event.target.closest("#photo")) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  // On a phone the image is below the prompt.
  document.addEventListener("click", (event) => {
    if (window.innerWidth <= 700 && event.target.closest("#go, #edit, #gallery button, #keep, #undo")) {
      document.querySelector("#stage").scrollIntoView({ block: "start" });
    }
  });
}
