// The shelf of conversations: a line with the open one, below it, when unfolded, all others. The value is the id of the
// open one; the address keeps it. Also the keys of the whole page: Escape stops.
let title = "", total = 0, entries = [], more = 0, isOpen = false, stamp = "", known = "", removed = null;

const line = make("div", "shelf-line");
const fold = button("", () => unfold(!isOpen), "shelf-fold");
const name = make("span", "shelf-title");
const tools = make("span", "shelf-tools");
const told = make("div", "shelf-told");
const list = make("div", "shelf-list");
const search = make("input", "shelf-search");
const rows = make("ul", "shelf-rows");
search.type = "search";
search.placeholder = say("Search in titles and in what was said", "搜索标题与内容");
search.setAttribute("aria-label", search.placeholder);
list.append(search, rows);
line.append(fold, name, tools);
box.append(line, told, list);
fold.id = "chat-shelf-fold";
told.setAttribute("role", "status");

function drawLine() {
  fold.textContent = `${isOpen ? "▾" : "▸"} ${say("Conversations", "对话")} (${total})`;
  fold.setAttribute("aria-expanded", isOpen);
  list.hidden = !isOpen;
  if (name.querySelector("input")) return; // it is being renamed
  name.textContent = props.value ? title : "";
  tools.replaceChildren(...(props.value ? [
    button(say("Rename", "重命名"), () => rename(props.value, title, name)),
    button("Markdown ↓", () => download("md")),
    button("JSON ↓", () => download("json")),
  ] : []));
}

function drawRows() {
  if (rows.querySelector("input")) return;
  rows.replaceChildren(...entries.map(row));
  if (more) rows.append(hint(say(`${count(more)} older ones: search for them.`, `另有 ${more} 个更早的对话，请搜索。`)));
  if (!entries.length)
    rows.append(hint(search.value ? say("Nothing was found.", "没有找到。") : say("No conversations yet: the first prompt begins one.", "还没有对话：发送第一条提示词即可开始。")));
}

function row(entry) {
  const item = make("li", entry.id === props.value ? "current" : "");
  item.dataset.chat = entry.id;
  const open = make("button", "shelf-open", entry.problem || entry.title);
  open.type = "button";
  open.disabled = Boolean(entry.problem);
  open.addEventListener("click", () => { show(entry.id); unfold(false); });
  const about = make("small", "", [entry.when, `${entry.prompts} ${say(entry.prompts === 1 ? "prompt" : "prompts", "条提示词")}`,
    entry.is_branch ? say("branch", "分支") : "", entry.who].filter(Boolean).join(" · "));
  item.append(make("span", "shelf-text", open, about), make("span", "shelf-acts",
    ...(entry.problem ? [] : [button(say("Rename", "重命名"), () => rename(entry.id, entry.title, item.firstChild))]),
    button(say("Delete", "删除"), () => remove(entry))));
  return item;
}

function rename(id, old, place) {
  const input = make("input");
  input.value = old;
  input.setAttribute("aria-label", say("Title", "标题"));
  let over = false; // taking the field away takes the focus from it, which ends it once more
  const done = async (keep) => {
    if (over) return;
    over = true;
    input.remove();
    if (keep && input.value.trim() && input.value !== old) await answered(server.rename(id, input.value));
    look();
    drawLine();
    drawRows();
  };
  input.addEventListener("keydown", (event) => {
    event.stopPropagation(); // Escape here stops no answer
    if (event.key === "Enter") done(true);
    if (event.key === "Escape") done(false);
  });
  input.addEventListener("blur", () => done(true));
  place.replaceChildren(input);
  input.focus();
  input.select();
}

async function remove(entry) {
  if (!await answered(server.remove(entry.id))) return;
  removed = entry;
  const undo = button(say("Undo", "撤销"), async () => {
    if (await answered(server.restore(entry.id))) told.replaceChildren();
    look();
  });
  told.replaceChildren(say(`"${entry.title}" is deleted. `, `“${entry.title}”已删除。`), undo);
  if (entry.id === props.value) show("");
  look();
}

async function download(kind) {
  const file = await answered(server.download(props.value, kind));
  if (!file) return;
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([file.text], { type: kind === "json" ? "application/json" : "text/markdown" }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function answered(asked) {
  const answer = await asked;
  if (answer.error) told.replaceChildren(card("bad", answer.error));
  return answer.error ? null : answer;
}

function show(id) {
  props.value = id;
  mark();
  trigger("select", {});
}

// the address follows the page that is looked at, and the open conversation, so that a reload comes back to them
const pages = document.getElementById("chat-tabs");
const onPage = () => pages?.querySelector("[role=tab][aria-selected=true]")?.id.match(/^chat-tab-(.*)-button$/)?.[1] ?? "compare";

function mark(page = onPage()) {
  window.seedbedChat = page === "compare" ? props.value : page;
  const place = `#chat${window.seedbedChat ? `/${window.seedbedChat}` : ""}`;
  if (location.hash.startsWith("#chat")) history.replaceState(null, "", place);
  drawLine();
  for (const item of rows.children) item.classList.toggle("current", item.dataset.chat === props.value);
}

function unfold(open) {
  isOpen = open;
  drawLine();
  look();
  if (open) search.focus();
}

const look = keepAsking(async () => {
  const asked = [props.value, search.value, isOpen].join("\n");
  if (asked !== known) stamp = "";
  known = asked;
  const answer = await server.shelved(props.value, search.value, isOpen, stamp);
  if (!answer || answer.error) return false;
  ({ stamp, title, count: total, entries, more } = answer);
  drawLine();
  drawRows();
  return false;
});
search.addEventListener("input", look);
watch("value", () => mark());
pages?.addEventListener("click", (event) => {
  const page = event.target.closest("[role=tab]")?.id.match(/^chat-tab-(.*)-button$/)?.[1];
  if (page) mark(page);
});

function keys(event) {
  if (event.key !== "Escape" || !element.offsetParent || event.target.closest?.("[role=listbox], input")) return;
  document.querySelector("#chat-stop:not([disabled])")?.click();
}
listen(document, "keydown", keys);

drawLine();
// an address names a conversation, or another page of this tab
function place() {
  const name = location.hash.match(/^#chat\/([\w-]+)$/)?.[1] ?? "";
  const page = document.getElementById(`chat-tab-${name}-button`);
  return { page, chat: page ? "" : name };
}

function follow() {
  const { page, chat } = place();
  if (chat && chat !== props.value) show(chat);
  page?.click();
}

listen(window, "hashchange", follow);
const first = place();
show(first.chat);
first.page?.click();
