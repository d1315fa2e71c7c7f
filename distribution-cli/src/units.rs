//! Times and sizes, as people write and read them.

use std::time::Duration;

/// Reads `250ms`, `5s`, `3m`, `2h`, `7d`, or `unlimited`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    if text == "unlimited" {
        return Ok(Duration::MAX);
    }
    let (number, unit) = split(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err("a time is a number with a unit: 250ms, 5s, 3m, 2h or 7d; or `unlimited`".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "it is too long, or negative".to_owned())
}

/// Reads `5` or `5s`: for how long a profile is taken.
pub(crate) fn parse_seconds(text: &str) -> Result<u64, String> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse().ok();
    seconds.filter(|seconds| (1..=30).contains(seconds)).ok_or_else(|| "it takes 1 to 30 seconds: 5 or 5s".to_owned())
}

/// The same without `unlimited`, for an age.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    match text {
        "unlimited" => Err("an age is a number with a unit: 250ms, 5s, 3m, 2h or 7d".to_owned()),
        _ => parse_time(text),
    }
}

/// Reads `1048576`, `64MiB`, `1GiB`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err("a size is a number of bytes, or one with a unit: 64KiB, 16MiB, 1GiB".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| format!("`{number}` is not a whole number"))?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    (&text[..at], text[at..].trim())
}

/// `2026-01-31T12:30:05Z`, of a time since the beginning of 1970.
pub(crate) fn date(since: Duration) -> String {
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    chrono::DateTime::from_timestamp(seconds, 0)
        .map_or_else(|| format!("{seconds} s"), |date| date.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The same with milliseconds.
pub(crate) fn moment(since: Duration) -> String {
    format!("{}.{:03}Z", date(since).trim_end_matches('Z'), since.subsec_millis())
}

/// `3 m 12 s`: the two largest units.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `120 µs`, `1.2 ms`, and longer ones as [`time`] shows them.
pub(crate) fn short_time(short: Duration) -> String {
    match short.as_micros() {
        0..1000 => format!("{} µs", short.as_micros()),
        1000..10_000 => format!("{:.1} ms", short.as_secs_f64() * 1e3),
        _ => time(short),
    }
}

/// `1.2 GiB`.
pub(crate) fn size(bytes: usize) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be shown as 1024.0 is shown in the next unit.
    for next in units {
        if size < 1023.95 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        let read = |text| parse_time(text).map(time);
        for (text, shown) in [
            ("250ms", "250 ms"),
            ("5s", "5.0 s"),
            ("59 s", "59 s"),
            ("192s", "3 m 12 s"),
            ("3m", "3 m"),
            ("2.5h", "2 h 30 m"),
            ("7d", "7 d"),
            ("49h", "2 d 1 h"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown), "{text}");
        }
        assert_eq!(parse_time("unlimited"), Ok(Duration::MAX));
        for wrong in ["", "5", "s", "-5s", "1.2.3s", "5x", "99999999999999999999d"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn short_times_are_shown_to_two_digits() {
        for (micros, shown) in [(0, "0 µs"), (999, "999 µs"), (1200, "1.2 ms"), (12_000, "12 ms"), (3_200_000, "3.2 s")]
        {
            assert_eq!(short_time(Duration::from_micros(micros)), shown);
        }
    }

    #[test]
    fn large_counts_are_grouped() {
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), shown);
        }
    }

    #[test]
    fn dates_are_shown() {
        assert_eq!(date(Duration::from_millis(1_769_862_605_900)), "2026-01-31T12:30:05Z");
        assert_eq!(moment(Duration::from_millis(1_769_862_605_090)), "2026-01-31T12:30:05.090Z");
    }

    #[test]
    fn sizes_are_read_and_shown() {
        let read = |text| parse_size(text).map(size);
        for (text, shown) in [
            ("0", "0 B"),
            ("1023", "1023 B"),
            ("1024", "1.0 KiB"),
            ("1048575", "1.0 MiB"),
            ("64MiB", "64.0 MiB"),
            ("1288490188", "1.2 GiB"),
            ("2T", "2.0 TiB"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown), "{text}");
        }
        for wrong in ["", "x", "-1", "1.5MiB", "5 XiB", "99999999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
