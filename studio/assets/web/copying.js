// Texts with a button that copies them.
function copier(text) {
  const made = button(say("Copy", "复制"), async () => {
    try {
      await navigator.clipboard.writeText(text());
    } catch {
      const area = make("textarea", "", text()); // without https, only this old way is open
      made.after(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    made.textContent = say("Copied", "已复制");
    setTimeout(() => { made.textContent = say("Copy", "复制"); }, 1500);
  }, "copy");
  return made;
}

function copied(className, text) {
  const pre = make("pre", className, text);
  pre.tabIndex = 0;
  return make("div", "copied", pre, copier(() => pre.textContent));
}
