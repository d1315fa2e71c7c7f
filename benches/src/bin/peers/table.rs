//! What came out: medians over the rounds, as a table for people or as lines of JSON for programs.

use serde_json::json;

use crate::comparisons::Comparison;

/// A comparison and what each round gave.
#[derive(Debug)]
pub(crate) struct Row {
    comparison: Comparison,
    ours: Vec<f64>,
    theirs: Vec<f64>,
    ratios: Vec<f64>,
}

impl Row {
    /// A row that no round has added to.
    pub(crate) fn new(comparison: Comparison) -> Self {
        Self { comparison, ours: Vec::new(), theirs: Vec::new(), ratios: Vec::new() }
    }

    /// What is compared.
    pub(crate) fn comparison(&self) -> &Comparison {
        &self.comparison
    }

    /// Adds what a round gave. The ratio is taken within the round, so that a machine which is slower for a while is so
    /// for both.
    pub(crate) fn add(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
        self.ratios.push(self.comparison.ratio(ours, theirs));
    }

    /// One object in one line.
    pub(crate) fn json(&self) -> String {
        json!({
            "measure": self.comparison.measure.name(),
            "peer": self.comparison.peer,
            "ours": rounded(median(&self.ours)),
            "theirs": rounded(median(&self.theirs)),
            "unit": self.comparison.unit,
            "ratio": rounded(median(&self.ratios)),
        })
        .to_string()
    }
}

/// The table, a line for each comparison.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<20} {:<13} {:>12} {:>12} {:<8} {:>7} {:>15} {:>7}\n",
        "measure", "peer", "ours", "theirs", "unit", "ratio", "lowest-highest", "target"
    );
    for row in rows {
        let Comparison { measure, peer, unit, target, .. } = row.comparison;
        let ratio = median(&row.ratios);
        let (lowest, highest) =
            row.ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
        text.push_str(&format!(
            "{:<20} {peer:<13} {:>12} {:>12} {unit:<8} {ratio:>7.2} {:>15} {target:>7.2}  {}\n",
            measure.name(),
            shown(median(&row.ours)),
            shown(median(&row.theirs)),
            format!("{lowest:.2}-{highest:.2}"),
            if ratio >= target { "reached" } else { "missed" },
        ));
    }
    text
}

/// The middle value; of an even number of them, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.get(half) {
        None => f64::NAN,
        Some(middle) if sorted.len() % 2 == 1 => *middle,
        Some(upper) => (sorted[half - 1] + upper) / 2.0,
    }
}

/// Four digits, which is more than the machine keeps still for.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn shown(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparisons::Measure;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let comparison = Measure::UnaryP50.comparisons().remove(0);
        let mut row = Row::new(comparison);
        // The machine is ten times slower in the last round, for both.
        for (ours, theirs) in [(10.0, 8.0), (10.0, 8.0), (100.0, 80.0)] {
            row.add(ours, theirs);
        }
        let said: serde_json::Value = serde_json::from_str(&row.json()).expect("JSON");
        let expected =
            json!({"measure": "unary_p50", "peer": "raw", "ours": 10.0, "theirs": 8.0, "unit": "us", "ratio": 0.8});
        assert_eq!(said, expected);
    }
}
