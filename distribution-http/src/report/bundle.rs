//! The scripts of the page as one script: browsers do not load modules from disk.
//!
//! The modules are written so that this is easy, and a test says so if one is not: each import and export is a line of its own
//! and names what it takes. Each module becomes a function that is called once and returns what it exports, after those that
//! it imports.

use std::fmt::Write as _;

use crate::assets;

/// The whole script.
pub(super) fn script() -> String {
    let (mut script, mut taken) = ("const modules = {};\n".to_owned(), Vec::new());
    add("/js/main.js", &mut script, &mut taken);
    script
}

/// Adds a module, those first that it imports.
fn add(path: &str, script: &mut String, taken: &mut Vec<String>) {
    if taken.iter().any(|known| known == path) {
        return;
    }
    taken.push(path.to_owned());
    let (mut body, mut exported) = (String::new(), Vec::new());
    for line in assets::text(path).unwrap_or_default().lines() {
        if let Some(import) = Import::read(path, line) {
            add(&import.from, script, taken);
            let _ = writeln!(body, "const {{ {} }} = modules[\"{}\"];", import.names, import.from);
        } else if let Some(declaration) = line.strip_prefix("export ") {
            exported.extend(name_of(declaration));
            let _ = writeln!(body, "{declaration}");
        } else {
            let _ = writeln!(body, "{line}");
        }
    }
    let _ = write!(script, "modules[\"{path}\"] = (() => {{\n{body}return {{ {} }};\n}})();\n", exported.join(", "));
}

/// `import { names } from "./from.js";`
struct Import<'a> {
    names: &'a str,
    /// The path of the module that is meant.
    from: String,
}

impl<'a> Import<'a> {
    fn read(path: &str, line: &'a str) -> Option<Self> {
        let (names, from) = line.strip_prefix("import { ")?.strip_suffix("\";")?.split_once(" } from \"")?;
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        for part in from.split('/') {
            match part {
                "." => {}
                ".." => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        Some(Self { names, from: parts.join("/") })
    }
}

/// What a declaration declares: `function read(path) {` declares `read`.
fn name_of(declaration: &str) -> Option<&str> {
    let declaration = declaration.strip_prefix("async ").unwrap_or(declaration);
    let rest = ["function ", "class ", "const "].iter().find_map(|kind| declaration.strip_prefix(kind))?;
    rest.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> impl Iterator<Item = (&'static str, &'static str)> {
        assets::all().filter(|(path, _)| path.ends_with(".js"))
    }

    #[test]
    fn each_import_and_export_can_be_bundled() {
        for (path, text) in modules() {
            for line in text.lines().filter(|line| line.contains("import") || line.contains("export")) {
                let word = line.split_whitespace().next().unwrap_or_default();
                match word {
                    "import" => {
                        let import = Import::read(path, line).unwrap_or_else(|| panic!("{path}: {line}"));
                        assert!(!import.names.contains(" as "), "{path}: {line}");
                        let exporter = assets::text(&import.from).unwrap_or_else(|| panic!("{path}: {line}"));
                        for name in import.names.split(", ") {
                            let exports = |line: &str| line.strip_prefix("export ").and_then(name_of) == Some(name);
                            assert!(exporter.lines().any(exports), "{path}: nothing exports `{name}`");
                        }
                    }
                    "export" => {
                        assert!(line.strip_prefix("export ").and_then(name_of).is_some(), "{path}: {line}");
                    }
                    _ => assert!(!line.contains("import("), "{path}: {line}"),
                }
            }
        }
    }

    #[test]
    fn a_module_comes_once_and_after_those_that_it_imports() {
        let script = script();
        for (path, text) in modules() {
            let defined = format!("modules[\"{path}\"] = ");
            let at = script.find(&defined).unwrap_or_else(|| panic!("{path} is not part of the script"));
            assert_eq!(script.matches(&defined).count(), 1, "{path}");
            for import in text.lines().filter_map(|line| Import::read(path, line)) {
                let before = script.find(&format!("modules[\"{}\"] = ", import.from)).expect("is there");
                assert!(before < at, "{path} imports {} in a circle", import.from);
            }
        }
    }

    #[test]
    fn no_script_ends_the_element_that_it_is_in() {
        assert!(!script().contains("</") || !script().to_lowercase().contains("</script"), "`</script` ends it");
        assert!(!script().contains("<!--"), "`<!--` begins a comment in it");
    }
}
