"use strict";
const form = document.querySelector(".filters");
if (form) {
  const cards = [...document.querySelectorAll(".filtered .card")];
  const statuses = new Map(cards.map((card) => [card, JSON.parse(card.dataset.statuses)]));
  const names = ["method", "backbone", "count"].filter((name) => form.elements[name]);
  const first = document.querySelector("[data-judge]").dataset.judge;
  const show = () => {
    let shown = 0;
    const judge = form.elements.judge ? form.elements.judge.value : first;
    const status = form.elements.status.value;
    for (const part of document.querySelectorAll("[data-judge]")) {
      part.toggleAttribute("hidden", part.dataset.judge !== judge);
    }
    for (const card of cards) {
      const fits = names.every((name) => {
        const wanted = form.elements[name].value;
        return !wanted || card.dataset[name] === wanted;
      }) && (!status || statuses.get(card)[judge].includes(status));
      card.classList.toggle("right", statuses.get(card)[judge].includes("right"));
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
