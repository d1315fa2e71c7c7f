//! The HTML of a report: the page's own, with its styles, its scripts and the data inside.

use std::fmt::Write as _;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use super::bundle;
use crate::assets;

/// A page with this data, which its scripts find in the element with this id.
pub(crate) fn page(id: &str, json: &str) -> String {
    let index = assets::text("/index.html").unwrap_or_default();
    let styles: String = index.lines().filter_map(style).collect();
    let script = bundle::script();
    let icon = format!("data:image/svg+xml,{}", percent_encoded(assets::text("/icon.svg").unwrap_or_default()));
    // Only the scripts and styles of this program: what the data says could not run, even if it were read as HTML.
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(&styles)
    );
    let mut page = String::with_capacity(json.len() + 200_000);
    let mut is_in_control = false;
    for line in index.lines() {
        let trimmed = line.trim_start();
        // Nobody logs in to a file, or is asked by it.
        is_in_control |= ["<form ", "<dialog "].iter().any(|control| trimmed.starts_with(control));
        if is_in_control {
            is_in_control = !["</form>", "</dialog>"].iter().any(|end| trimmed.starts_with(end));
            continue;
        }
        if style(line).is_some() {
            continue;
        }
        if trimmed.starts_with("<script ") {
            let _ = writeln!(page, "  <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">");
            let _ = writeln!(page, "  <style>{styles}</style>");
        } else if trimmed.starts_with("</body>") {
            let _ = writeln!(page, "<script type=\"application/json\" id=\"{id}\">{}</script>", as_text(json));
            let _ = writeln!(page, "<script type=\"module\">{script}</script>\n{line}");
        } else {
            let _ = writeln!(page, "{}", line.replace("\"icon.svg\"", &format!("\"{icon}\"")));
        }
    }
    page
}

/// JSON that stays text where HTML is read: it has no `</script>` and no `<!--`.
fn as_text(json: &str) -> String {
    // In JSON a `<` is part of a string.
    json.replace('<', "\\u003c")
}

/// The text of the style sheet that a line of the page names.
fn style(line: &str) -> Option<&'static str> {
    let path = line.trim_start().strip_prefix("<link rel=\"stylesheet\" href=\"")?.strip_suffix("\">")?;
    assets::text(&format!("/{path}"))
}

/// How a policy names a script or a style.
fn hash(text: &str) -> String {
    format!("sha256-{}", Base64::encode_string(&Sha256::digest(text.as_bytes())))
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'/' | b':' | b'=' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_no_other_file_and_has_no_controls() {
        let page = page("report", "{}");
        for word in ["href=\"css", "src=\"", "<form", "type=\"password\"", "<dialog"] {
            let found = page.lines().find(|line| line.contains(word) && !line.contains("src=\"data:"));
            assert_eq!(found, None, "{word}");
        }
        for word in ["--page: light-dark", "modules[\"/js/main.js\"]", "id=\"report\">{}</script>", "</body>"] {
            assert!(page.contains(word), "{word}");
        }
    }

    #[test]
    fn no_text_ends_the_element_that_the_data_is_in() {
        let hostile = "</script><script>alert(1)</script><!--";
        let json = serde_json::json!({ "message": hostile }).to_string();
        let text = as_text(&json);
        assert!(!text.contains('<'), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(read["message"], hostile);
    }
}
