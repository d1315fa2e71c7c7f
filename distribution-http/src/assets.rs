//! The files of the page, which are part of the program.

use axum::{
    extract::{OriginalUri, Request},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};

use crate::refusal::Refusal;

/// A file of the page: its path, its type, its text.
type Asset = (&'static str, &'static str, &'static str);

macro_rules! assets {
    ($($kind:ident: $($path:literal)*;)*) => {
        &[$($((concat!("/", $path), assets!(@$kind), include_str!(concat!("../page/", $path)))),*),*]
    };
    (@html) => { "text/html; charset=utf-8" };
    (@css) => { "text/css; charset=utf-8" };
    (@js) => { "text/javascript; charset=utf-8" };
    (@svg) => { "image/svg+xml" };
}

const INDEX: &str = "/index.html";

const ASSETS: &[Asset] = assets! {
    html: "index.html";
    svg: "icon.svg";
    css: "css/base.css" "css/layout.css" "css/panels.css" "css/tables.css";
    js: "js/api.js" "js/chart.js" "js/flame.js" "js/history.js" "js/report.js" "js/save.js" "js/confirm.js" "js/dom.js" "js/format.js" "js/lines.js" "js/list.js" "js/load.js" "js/main.js" "js/navigation.js" "js/profile.js" "js/session.js"
        "js/stream.js" "js/table.js" "js/theme.js" "js/panels/callers.js" "js/panels/calls.js" "js/panels/events.js" "js/panels/failures.js"
        "js/panels/logs.js" "js/panels/runs.js"
        "js/panels/methods.js" "js/panels/nodes.js" "js/panels/overview.js" "js/panels/services.js" "js/panels/tasks.js";
};

/// The text of the file at this path.
pub(crate) fn text(path: &str) -> Option<&'static str> {
    ASSETS.iter().find(|(name, ..)| *name == path).map(|(.., text)| *text)
}

/// All files, by their paths.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    ASSETS.iter().map(|(path, _, text)| (*path, *text))
}

/// Answers a request for a file of the page.
pub(crate) async fn serve(OriginalUri(original): OriginalUri, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "The page is read with GET.").into_response();
    }
    let path = match request.uri().path() {
        // The page names its files from where it is, so its own address has to go on behind the prefix that it is mounted at.
        "" | "/" if !original.path().ends_with('/') => {
            let last = original.path().rsplit('/').next().unwrap_or_default();
            return Redirect::temporary(&format!("{last}{INDEX}")).into_response();
        }
        "" | "/" => INDEX,
        path => path,
    };
    let Some((_, kind, text)) = ASSETS.iter().find(|(name, ..)| *name == path) else {
        return Refusal::new(StatusCode::NOT_FOUND, "There is no such page here.").into_response();
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A program that was built anew has other files under the same names.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn files(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => files(&path, found),
                false => found.push(path.display().to_string()),
            }
        }
    }

    #[test]
    fn each_file_of_the_page_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut found = Vec::new();
        files(&root, &mut found);
        let mut found: Vec<_> = found.iter().map(|file| &file[root.display().to_string().len()..]).collect();
        let mut served: Vec<_> = ASSETS.iter().map(|(path, ..)| *path).collect();
        found.sort_unstable();
        served.sort_unstable();
        assert_eq!(found, served);
    }

    #[test]
    fn the_page_takes_nothing_from_elsewhere_and_writes_text_only() {
        for (path, _, text) in ASSETS {
            for word in
                ["http:", "https:", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="]
            {
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(word), "{path} has `{word}`");
            }
        }
    }

    #[test]
    fn each_file_of_the_page_says_what_it_is_for_and_is_short() {
        for (path, kind, text) in ASSETS {
            let opens = if kind.contains("html") || kind.contains("svg") { "<" } else { "/*" };
            assert!(text.starts_with(opens), "{path} does not open with a comment");
            assert!(text.lines().count() <= 400, "{path} is too long");
        }
    }
}
