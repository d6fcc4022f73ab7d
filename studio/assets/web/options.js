// The way to one option of the Train form: its section is opened, and "More" if it is behind that.
const MOUNTED_MS = 80;

const headOf = (accordion) => accordion.querySelector(":scope > button");

async function unfold(accordion) {
  if (!accordion || headOf(accordion).classList.contains("open")) return;
  headOf(accordion).click();
  await new Promise((done) => setTimeout(done, MOUNTED_MS));
}

// Whether it is there: an option that does not matter now is not.
async function goTo(group, key) {
  const section = document.getElementById(`option-section-${group}`);
  if (!section) return false;
  const widget = () => section.querySelector(`[data-option="${key}"]`) ?? section.querySelector(`#option-${key}`); // a stand-in goes first
  await unfold(section);
  if (!widget()?.offsetParent) await unfold(section.querySelector(".more"));
  if (!widget()?.offsetParent) return false;
  widget().scrollIntoView({ block: "center" });
  (widget().querySelector("input, textarea") ?? widget()).focus({ preventScroll: true });
  widget().classList.add("found");
  setTimeout(() => widget()?.classList.remove("found"), 2000);
  return true;
}
