/* Light or dark: as the system says, until a button says otherwise. */

const KEY = "distribution.theme";
const ORDER = ["system", "light", "dark"];

function apply(theme, button) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = `Theme: ${theme}`;
  dispatchEvent(new Event("themechange"));
}

export function setUpTheme() {
  const button = document.getElementById("theme");
  let theme = localStorage.getItem(KEY);
  if (!ORDER.includes(theme)) theme = "system";
  apply(theme, button);
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    localStorage.setItem(KEY, theme);
    apply(theme, button);
  });
}
