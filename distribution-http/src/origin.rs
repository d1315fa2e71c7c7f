//! Which requests may come from a browser: by the host that they name, and by the page that makes them.
//!
//! A web page of anybody can have its name resolve to this machine (DNS rebinding), and can have the browser send requests
//! here. The browser says in both cases what it does: in `Host`, and in `Origin` and `Sec-Fetch-Site`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, uri::Authority};

use crate::refusal::Refusal;

/// The hosts that a request may name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    /// Names in lower case, and addresses.
    names: Vec<String>,
    /// Any address of this machine will do, because the server listens on all of them. A name is what DNS rebinding needs.
    any_address: bool,
}

impl Hosts {
    /// Takes requests to this name or address, too.
    pub(crate) fn allow(&mut self, name: &str) {
        self.names.push(bare(name).to_ascii_lowercase());
    }

    /// Takes requests to the address that the server listens on.
    pub(crate) fn allow_address(&mut self, ip: IpAddr) {
        match ip.is_unspecified() {
            true => self.any_address = true,
            false => self.allow(&ip.to_canonical().to_string()),
        }
    }

    /// Whether a request may name this host.
    fn has(&self, host: &str) -> bool {
        let host = bare(host);
        match host.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback() || self.any_address || self.names.iter().any(|name| *name == ip.to_string())
            }
            Err(_) => {
                host.eq_ignore_ascii_case("localhost") || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
            }
        }
    }

    /// Checks the host that a request names, once and in a form that can be read.
    ///
    /// # Errors
    ///
    /// 421 for a host that is not served here, 400 for none.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refusal> {
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
            // HTTP/2 has it in the address.
            (None, _) => uri.authority().cloned(),
            _ => None,
        };
        let Some(host) = host else {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "The request must have one `Host` that can be read."));
        };
        if self.has(host.host()) {
            return Ok(host);
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This server is not the host that the request names. Use its address, or start it with this name as one of its \
             hosts (`--http-host`, or `PageBuilder::host`).",
        ))
    }
}

/// Without the brackets of an IPv6 address, and without the dot that ends a full name.
fn bare(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host)
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Checks that a request was not made by another page. Programs that are not browsers send none of these headers.
///
/// # Errors
///
/// 403, with a sentence.
pub(crate) fn check_page(method: &Method, headers: &HeaderMap, host: &Authority, is_api: bool) -> Result<(), Refusal> {
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    let refuse = |what: &str| {
        let sentence = format!("The request comes from another page ({what}), and only this page may make it.");
        Err(Refusal::new(StatusCode::FORBIDDEN, sentence))
    };
    let one = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match one(&FETCH_SITE) {
        None | Some("same-origin") => {}
        // Typed in, or from a bookmark: nothing changes by that.
        Some("none") if !changes => {}
        // A link on another page that leads to this one.
        Some(_) if !changes && !is_api && one(&FETCH_MODE).is_none_or(|mode| mode == "navigate") => {}
        Some(_) => return refuse("`Sec-Fetch-Site`"),
    }
    if changes {
        // Old browsers send no more than this.
        if let Some(origin) = one(&header::ORIGIN) {
            let same = origin.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority);
            if same.is_none_or(|origin| !origin.as_str().eq_ignore_ascii_case(host.as_str())) {
                return refuse("`Origin`");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let parse =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().expect("a value"));
        pairs.iter().map(parse).collect()
    }

    #[test]
    fn only_hosts_that_are_served_may_be_named() {
        let mut hosts = Hosts::default();
        hosts.allow("Dash.internal");
        hosts.allow_address([10, 0, 0, 1].into());
        let status = |host: &str| match hosts.check(&Uri::from_static("/"), &headers(&[("host", host)])) {
            Ok(_) => 200,
            Err(refusal) => refusal.status.as_u16(),
        };
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "127.0.0.1:8",
            "127.9.9.9",
            "[::1]:3",
            "dash.INTERNAL",
            "10.0.0.1:1",
        ] {
            assert_eq!(status(host), 200, "{host}");
        }
        for host in ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.2", "127.0.0.1.evil.example"]
        {
            assert_eq!(status(host), 421, "{host}");
        }
        assert_eq!(status(""), 400);
        let two: HeaderMap =
            ["a", "localhost"].map(|host| (header::HOST, host.parse().expect("a value"))).into_iter().collect();
        let mut both = HeaderMap::new();
        for host in two.values() {
            both.append(header::HOST, host.clone());
        }
        both.append(header::HOST, "localhost".parse().expect("a value"));
        let refusal = hosts.check(&Uri::from_static("/"), &both).expect_err("which one?");
        assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_server_on_all_addresses_takes_addresses_and_no_other_names() {
        let mut hosts = Hosts::default();
        hosts.allow_address([0, 0, 0, 0].into());
        assert!(hosts.has("10.1.2.3") && hosts.has("[fd00::1]") && !hosts.has("evil.example"));
    }

    #[test]
    fn requests_of_other_pages_are_refused() {
        let host: Authority = "localhost:1".parse().expect("a host");
        let allowed = |method: Method, is_api, pairs: &[(&'static str, &str)]| {
            check_page(&method, &headers(pairs), &host, is_api).is_ok()
        };
        let (get, post) = (Method::GET, Method::POST);
        for site in ["cross-site", "same-site", "what"] {
            assert!(!allowed(get.clone(), true, &[("sec-fetch-site", site)]), "{site}");
            assert!(!allowed(post.clone(), true, &[("sec-fetch-site", site)]), "{site}");
            let link = [("sec-fetch-site", site), ("sec-fetch-mode", "navigate")];
            assert!(allowed(get.clone(), false, &link), "{site}");
            let script = [("sec-fetch-site", site), ("sec-fetch-mode", "no-cors")];
            assert!(!allowed(get.clone(), false, &script), "{site}");
        }
        assert!(allowed(get.clone(), true, &[("sec-fetch-site", "none")]), "typed in");
        assert!(!allowed(post.clone(), true, &[("sec-fetch-site", "none")]));
        assert!(allowed(post.clone(), true, &[]), "not a browser");
        assert!(allowed(post.clone(), true, &[("origin", "http://localhost:1"), ("sec-fetch-site", "same-origin")]));
        for origin in ["http://localhost:2", "https://evil.example", "null", ""] {
            assert!(!allowed(post.clone(), true, &[("origin", origin)]), "{origin}");
        }
    }
}
