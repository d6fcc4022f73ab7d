// Rows that can be edited, and picked for deletion. What is picked belongs to the page on show.
const inChinese = navigator.language.toLowerCase().startsWith("zh");
const say = (english, chinese) => (inChinese ? chinese : english);

function picked() {
  return [...element.querySelectorAll("input[data-pick]:checked")].map((box) => Number(box.dataset.pick));
}

function button(text, act, className) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function unpick() {
  for (const box of element.querySelectorAll("input[data-pick]:checked")) box.checked = false;
  drawBar();
}

function drawBar() {
  const rows = picked();
  element.querySelector(".picked")?.remove();
  if (!rows.length) return;
  const bar = document.createElement("div");
  bar.className = "picked";
  const what = rows.length === 1 ? say("Delete row", "删除该行") : say(`Delete ${rows.length} rows`, `删除 ${rows.length} 行`);
  bar.append(
    button(what, () => trigger("delete", { rows }), "small danger"),
    button(say("Pick none", "取消选择"), unpick, "small"),
  );
  element.querySelector(".data-rows").append(bar);
}

watch("value", unpick); // a new page keeps the boxes of the old one
element.addEventListener("change", (event) => { if (event.target.matches("input[data-pick]")) drawBar(); });
element.addEventListener("click", (event) => {
  const row = event.target.closest("[data-edit]")?.dataset.edit;
  if (row) trigger("edit", { row: Number(row) });
});
