//! Takes join tokens out of a text, so that a log does not hand them on.

use std::borrow::Cow;

/// What each join token begins with.
pub(super) const TOKEN_PREFIX: &str = "dtok1_";

/// What stands for a token.
const INSTEAD: &str = "[token]";

/// The text with each join token, or what is left of one that was cut, replaced by `[token]`.
pub(crate) fn without_tokens(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(TOKEN_PREFIX) else { return Cow::Borrowed(text) };
    let mut redacted = String::with_capacity(text.len());
    let (mut before, mut rest) = text.split_at(first);
    loop {
        redacted.push_str(before);
        redacted.push_str(INSTEAD);
        let is_of_token = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        let end = rest.find(|letter| !is_of_token(letter)).unwrap_or(rest.len());
        rest = &rest[end..];
        let Some(next) = rest.find(TOKEN_PREFIX) else {
            redacted.push_str(rest);
            return Cow::Owned(redacted);
        };
        (before, rest) = rest.split_at(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_and_what_is_around_them_stays() {
        for (text, redacted) in [
            ("no token", "no token"),
            ("dtok1_node_AB-_9", "[token]"),
            ("joins by `dtok1_node_AbC` now", "joins by `[token]` now"),
            ("dtok1_admin_x, dtok1_caller_y.", "[token], [token]."),
            ("DISTRIBUTION_TOKEN=dtok1_node_x\nä", "DISTRIBUTION_TOKEN=[token]\nä"),
            ("cut: dtok1_", "cut: [token]"),
        ] {
            assert_eq!(without_tokens(text), redacted);
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_real_token_is_replaced() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let token = crate::Token::issue(folder.path().join("cluster.token"), crate::Access::Admins)?;
        assert_eq!(without_tokens(&format!("it is {token}!", token = token.expose())), "it is [token]!");
        Ok(())
    }
}
