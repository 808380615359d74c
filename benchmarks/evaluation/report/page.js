"use strict";
const form = document.querySelector(".filters");
const judges = [...document.querySelectorAll("select[name=judge]")];
const parts = [...document.querySelectorAll("[data-judge]")];
const cards = [...document.querySelectorAll(".filtered .card")];
const statuses = new Map(cards.map((card) => [card, JSON.parse(card.dataset.statuses)]));
const names = ["method", "backbone", "count"].filter((name) => form && form.elements[name]);
const filter = (judge) => {
  let shown = 0;
  const status = form.elements.status.value;
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
const show = (chosen) => {
  const judge = judges.length ? (chosen || judges[0].value) : parts[0].dataset.judge;
  for (const select of judges) {
    select.value = judge;
  }
  for (const part of parts) {
    part.toggleAttribute("hidden", part.dataset.judge !== judge);
  }
  if (form) {
    filter(judge);
  }
};
document.querySelectorAll(".judge, .filters").forEach((one) => { one.hidden = false; });
document.addEventListener("input", (event) => show(event.target.name === "judge" ? event.target.value : ""));
if (form) {
  form.addEventListener("submit", (event) => event.preventDefault());
}
show();
