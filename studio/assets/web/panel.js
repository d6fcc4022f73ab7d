// What the panels of a dataset share: texts in two languages, small elements, asking again and again.
// `element`, `props`, `watch`, `trigger` and `server` come from the component that hosts the script.
const BUSY_MS = 500, CALM_MS = 3000;
const inChinese = navigator.language.toLowerCase().startsWith("zh");
const say = (english, chinese) => (inChinese ? chinese : english);
const box = element.querySelector(".panel");

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function button(text, act, className = "") {
  const node = make("button", `small ${className}`, text);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

const count = (number) => number.toLocaleString();
const card = (tone, ...children) => make("div", `card ${tone}`, make("p", "", ...children));
const hint = (text) => make("p", "empty", text);

// Work that was just begun is listed above the panels at once.
function showWork() {
  for (const block of document.querySelectorAll(".jobs-block")) block.dispatchEvent(new Event("seedbed:look"));
}

// Hears `target`, which outlives the component, for as long as that is in the page.
function listen(target, name, act) {
  function heard(event) {
    if (element.isConnected) act(event);
    else target.removeEventListener(name, heard);
  }
  target.addEventListener(name, heard);
}

// Calls `ask` now and whenever the value changes, often while it says true, seldom else, never out of sight.
function keepAsking(ask) {
  let due = 0, asking = false;
  async function look() {
    due = performance.now() + CALM_MS;
    asking = true;
    try {
      if (await ask()) due = performance.now() + BUSY_MS;
    } catch (error) {
      console.warn("dataset:", error); // the next look tries again: a restarted studio answers in a moment
    } finally {
      asking = false;
    }
  }
  function tick() {
    if (performance.now() >= due && !asking && !document.hidden && element.offsetParent) look();
  }
  const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), BUSY_MS / 2);
  const now = () => { due = 0; tick(); };
  watch("value", now);
  now();
  return now;
}
