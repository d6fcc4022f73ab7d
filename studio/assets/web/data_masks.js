// One row of the chosen dataset as tokens. Arrow keys walk from token to token; what is under the pointer or the
// focus is told in full below.
const TRAINED = 1, SPECIAL = 2, CUT = 4;
const SLOW_MS = 300;
let shownFor = null, dataset = "", row = 1, total = null, asked = 0;

const field = make("input", "short");
field.type = "number";
field.min = 1;
field.setAttribute("aria-label", say("Row", "行"));
const place = make("span", "");
const steps = {
  previous: button("‹", () => show(row - 1)),
  next: button("›", () => show(row + 1)),
  random: button(say("Random row", "随机一行"), () => show(1 + Math.floor(Math.random() * total))),
};
steps.previous.setAttribute("aria-label", say("Previous row", "上一行"));
steps.next.setAttribute("aria-label", say("Next row", "下一行"));
const view = make("div", "mask-view");
const detail = make("p", "mask-detail");
detail.setAttribute("role", "status");

function legend() {
  const key = (className, text) => make("span", `token ${className}`, text);
  return make("p", "mask-legend", key("trained", say("trained", "训练")), key("", say("only read", "仅作输入")),
    key("special", say("special", "特殊")), key("cut", say("cut off", "被截断")));
}

function kind(flags) {
  if (flags & CUT) return say("cut off", "被截断");
  return flags & TRAINED ? say("trained", "训练") : say("only read", "仅作输入");
}

function describe([id, text, flags], at, segment) {
  const special = flags & SPECIAL ? say(" · special", " · 特殊") : "";
  return `${say("Token", "第")} ${count(at + 1)} / ${count(segment.tokens)} · id ${id} · ${JSON.stringify(text)} · ${kind(flags)}${special}`;
}

function token(piece, at, segment) {
  const [, text, flags] = piece;
  const names = ["token", flags & TRAINED && "trained", flags & SPECIAL && "special", flags & CUT && "cut", !text && "part"];
  const node = make("span", names.filter(Boolean).join(" "), text.replaceAll("\n", "⏎\n") || "·");
  node.title = describe(piece, at, segment);
  node.tabIndex = at === 0 ? 0 : -1;
  return node;
}

function figures(segment) {
  const parts = [`${count(segment.tokens)} ${say("tokens", "个 token")}`, `${count(segment.trained)} ${say("trained", "训练")}`];
  if (segment.cut) parts.push(`${count(segment.cut)} ${say("cut off", "被截断")}`);
  return parts.join(" · ");
}

function draw(segment) {
  const text = make("div", "tokens", ...segment.pieces.map((piece, at) => token(piece, at, segment)));
  text.setAttribute("role", "group");
  const heading = make("h4", "", ...(segment.label ? [make("b", "", segment.label), " "] : []), figures(segment));
  const node = make("section", "mask-segment", heading, text);
  const hidden = segment.tokens - segment.pieces.length;
  if (hidden) node.append(hint(say(`… and ${count(hidden)} more tokens`, `……另有 ${count(hidden)} 个 token`)));
  if (!segment.trained) node.prepend(card("wait", say("Nothing of this row is trained: it is left out.", "该行没有可训练的内容，会被跳过。")));
  return node;
}

function answered(answer) {
  if (answer.row) { row = answer.row; total = answer.total; }
  field.value = row;
  place.textContent = total === null ? "" : `/ ${count(total)}`;
  steps.previous.disabled = row <= 1;
  steps.next.disabled = total !== null && row >= total;
  steps.random.disabled = total === null;
  const fault = answer.error ?? answer.fault;
  detail.textContent = "";
  if (fault) view.replaceChildren(card("bad", fault));
  else view.replaceChildren(...answer.segments.map(draw));
  view.dataset.row = row;
}

async function show(wanted) {
  const number = ++asked, subject = props.value;
  const slow = setTimeout(() => { detail.textContent = say("Rendering with the model's template …", "正在用模型模板渲染…"); }, SLOW_MS);
  try {
    const answer = await server.mask(subject, Math.max(1, Math.min(wanted, total ?? Infinity)));
    if (number === asked && subject === props.value) answered(answer);
  } finally {
    clearTimeout(slow);
  }
}

async function ask() {
  const subject = props.value;
  if (subject === shownFor) return false;
  if (!subject) { box.hidden = true; return false; }
  const name = JSON.parse(subject).dataset[0];
  if (name !== dataset) { dataset = name; row = 1; total = null; view.replaceChildren(); }
  box.hidden = false;
  await show(row);
  shownFor = subject;
  return false;
}

function point(node) {
  const target = node.closest?.(".token[title]");
  if (target) detail.textContent = target.title;
  return target;
}

field.addEventListener("change", () => show(Math.round(+field.value) || 1));
view.addEventListener("pointerover", (event) => point(event.target));
view.addEventListener("click", (event) => point(event.target)?.focus());
view.addEventListener("focusin", (event) => point(event.target));
view.addEventListener("keydown", (event) => {
  const step = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const to = step && event.target[step];
  if (!to) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
});
box.append(make("div", "panel-actions", make("label", "", say("Row", "行"), " ", field), place, ...Object.values(steps)), legend(), view, detail);
const now = keepAsking(ask);
// rows may have been edited while another panel was open
new IntersectionObserver(([seen]) => { if (seen.isIntersecting) { shownFor = null; now(); } }).observe(element);
