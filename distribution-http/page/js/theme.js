/* Light or dark: as the system says, until a button says otherwise. */

const KEY = "distribution.theme";
const ORDER = ["system", "light", "dark"];

/** A file that is opened from disk may have no place to remember it in. */
function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // It holds until the page is closed.
  }
}

function apply(theme, button) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = `Theme: ${theme}`;
  dispatchEvent(new Event("themechange"));
}

export function setUpTheme() {
  const button = document.getElementById("theme");
  let theme = remembered();
  if (!ORDER.includes(theme)) theme = "system";
  apply(theme, button);
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    remember(theme);
    apply(theme, button);
  });
}
