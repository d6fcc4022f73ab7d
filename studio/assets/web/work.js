// What the panels of a dataset share: texts in two languages, small elements, and the bar of work that runs elsewhere.
const inChinese = navigator.language.toLowerCase().startsWith("zh");
const say = (english, chinese) => (inChinese ? chinese : english);

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function button(label, act, className = "") {
  const made = make("button", `small-button ${className}`, label);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function card(tone, ...children) {
  return make("div", `card ${tone}`, make("p", "", ...children));
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// A bar, what is being done, and a way to end it. `work` is what work.py calls a view.
function progressBar(work, stop) {
  const bar = make("div", "bar", make("i", ""));
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuenow", Math.round((work.progress ?? 0) * 100));
  bar.firstChild.style.width = `${((work.progress ?? 0) * 100).toFixed(1)}%`;
  const left = work.eta_s ? ` · ${duration(work.eta_s)} ${say("left", "剩余")}` : "";
  const said = make("span", "", `${work.message || work.state}${left}`);
  const cancel = button(say("Cancel", "取消"), stop);
  cancel.disabled = work.state === "stopping";
  return make("div", "work", bar, make("div", "work-line", said, cancel));
}

// Calls `ask` every `busyMs` while it says true, else every `calmMs`; never while the panel is out of sight.
function keepLooking(ask, busyMs = 400, calmMs = 3000) {
  let wait = 0, asking = false;
  async function look() {
    wait = calmMs;
    asking = true;
    try {
      wait = (await ask()) ? busyMs : calmMs;
    } catch (error) {
      console.warn("dataset:", error); // the next look tries again: a restarted studio answers in a moment
    } finally {
      asking = false;
    }
  }
  const timer = setInterval(() => {
    if (!element.isConnected) return clearInterval(timer);
    wait -= 200;
    if (wait <= 0 && !asking && !document.hidden && element.offsetParent) look();
  }, 200);
  return () => { wait = 0; };
}
