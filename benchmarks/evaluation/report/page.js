"use strict";
const form = document.querySelector(".filters");
if (form) {
  const cards = [...document.querySelectorAll(".card")];
  const names = ["method", "backbone", "count", "status"].filter((name) => form.elements[name]);
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      const fits = names.every((name) => {
        const wanted = form.elements[name].value;
        return !wanted || card.dataset[name].split("|").includes(wanted);
      });
      card.hidden = !fits;
      shown += fits;
    }
    form.querySelector("output").textContent = `${shown} of ${cards.length} shown`;
    document.body.classList.toggle("show-boxes", form.elements.boxes.checked);
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}
