// The strip under the title: devices, memory, disk. One small question every five seconds while the page is visible.
const POLL_MS = 5000;
const strip = element.querySelector(".strip");
let met;
async function tick() {
  if (document.hidden) return;
  try {
    const { studio, items } = await server.gauges();
    met ??= studio;
    if (studio !== met) return location.reload(); // it was restarted: the states of this page went with the old one
    strip.replaceChildren(...items.map(({ label, text, share }) => {
      const item = document.createElement("span");
      item.className = "gauge" + (share > 0.9 ? " high" : "");
      item.innerHTML = `<b></b><i class="bar"><i style="width:${Math.round(share * 100)}%"></i></i><span></span>`;
      item.querySelector("b").textContent = label;
      item.querySelector("span").textContent = text;
      return item;
    }));
    strip.classList.remove("away");
  } catch (error) {
    strip.classList.add("away"); // the studio is down or restarting: runs go on without it
  }
}
document.querySelector("#tabs")?.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]")?.id.match(/^tab-(.*)-button$/)?.[1]; // tabs inside a tab are called otherwise
  const chosen = { runs: window.seedbedRun, chat: window.seedbedChat }[tab];
  if (tab && !location.hash.startsWith(`#${tab}/`)) history.replaceState(null, "", chosen ? `#${tab}/${chosen}` : `#${tab}`);
});
// back, forward and typed addresses
window.addEventListener("hashchange", () => document.getElementById(`tab-${location.hash.slice(1).split("/")[0]}-button`)?.click());
tick();
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), POLL_MS);
