// Finds an option: type, arrow down, Enter.
const ASK_MS = 150;
const field = make("input", "find");
field.type = "search";
field.placeholder = say("Find an option", "查找选项");
field.setAttribute("aria-label", field.placeholder);
const list = make("div", "found-list");
list.setAttribute("role", "list");
box.append(field, list);
let due = null;

function line(option) {
  const [label, hint, section] = [option.label, option.hint, option.section].map((pair) => say(...pair));
  const made = make("button", "found-option", make("b", "", label), make("code", "", option.key), make("small", "", `${section} · ${hint}`));
  made.type = "button";
  made.addEventListener("click", async () => {
    if (await goTo(option.group, option.key)) return empty();
    made.querySelector(".condition")?.remove();
    made.append(make("small", "condition", say(`Matters only with ${option.when}`, `仅在 ${option.when} 时有效`)));
  });
  return made;
}

function empty() {
  list.replaceChildren();
  field.value = "";
}

async function look() {
  const text = field.value;
  const { found, fates } = text.trim() ? await server.find(text) : { found: [], fates: [] };
  if (text !== field.value) return;
  list.replaceChildren(...found.map(line), ...fates.map(({ key, fate }) => make("p", "found-fate", make("code", "", key), ` ${fate}`)));
  if (text.trim() && !list.children.length) list.append(hint(say("No option is called or described so.", "没有这样的选项。")));
}

function move(event) {
  const stops = [field, ...list.querySelectorAll("button")];
  const next = stops[stops.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1)];
  if (next) { event.preventDefault(); next.focus(); }
}

field.addEventListener("input", () => { clearTimeout(due); due = setTimeout(look, ASK_MS); });
box.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { empty(); field.focus(); }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") move(event);
  if (event.key === "Enter" && event.target === field) list.querySelector("button")?.click();
});
