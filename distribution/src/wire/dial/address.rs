//! The address of a master: `host:port`.

use crate::error::Error;

/// Refuses what is not an address: no connection to it can ever succeed, so nobody must wait for a master there. `who` dials: `a node`.
pub(crate) fn check_address(addr: &str, who: &str) -> Result<(), Error> {
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // A zone may follow, as in `fe80::1%2`.
        Some(host) => host.split('%').next().is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', '/', '@', '[', ']']) && !host.contains(char::is_whitespace),
    };
    let fits = |(host, port): (&str, &str)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if addr.rsplit_once(':').is_some_and(fits) {
        return Ok(());
    }
    let reason = format!("{who} dials a `host:port`, such as 10.0.0.1:3000, [fd00::1]:3000 or master.example:3000");
    Err(Error::Setting { name: "master", value: format!("{addr:?}"), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_host_and_port_is_refused() {
        for addr in ["10.0.0.1:3000", "localhost:1", "[::1]:65535", "[fe80::1%2]:3000", "a-b.example:80"] {
            assert!(check_address(addr, "a node").is_ok(), "{addr}");
        }
        let wrong =
            ["", ":", "hello", "127.0.0.1", "127.0.0.1:", ":3000", "127.0.0.1:99999", "127.0.0.1:0", "::1:3000"];
        for addr in wrong.into_iter().chain(["http://10.0.0.1:3000", "[::1:3000", "a b:3000", "10.0.0.1:3000/"]) {
            let error = check_address(addr, "a node").expect_err(addr).to_string();
            assert!(error.contains(&format!("{addr:?}")) && error.contains("`host:port`"), "{error}");
        }
    }
}
