//! `/metrics`: what the master counts, in the text format of Prometheus.
//!
//! The crate `metrics-exporter-prometheus` writes this format too, for what its own recorder holds. What a master counts is
//! complete and labelled already, so that the few lines here take less than turning it into that recorder's keys.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use distribution::administration::{MetricFamily, MetricKind, MetricSample, MetricValue, bucket_ends};

use crate::{app::App, refusal::Refusal};

/// The version of the format.
const TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers a scrape. It needs a token where the API does: `authorization` in the configuration of Prometheus.
pub(crate) async fn serve(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let (parts, _) = request.into_parts();
    app.access.visitor(&parts).await?;
    let text = text(&app.admin.metrics().await?.families());
    Ok(([(header::CONTENT_TYPE, TYPE)], text).into_response())
}

fn text(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for MetricFamily { name, help, kind, samples, .. } in families {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            _ => "untyped",
        };
        let _ = writeln!(text, "# HELP {name} {}", escaped(help, false));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for MetricSample { labels, value, .. } in samples {
            match value {
                MetricValue::Count(count) => line(&mut text, name, "", labels, None, count),
                MetricValue::Number(number) => line(&mut text, name, "", labels, None, number),
                MetricValue::Times(times) => {
                    for end in bucket_ends() {
                        let le = end.as_secs_f64().to_string();
                        line(&mut text, name, "_bucket", labels, Some(&le), times.shorter_than(end));
                    }
                    line(&mut text, name, "_bucket", labels, Some("+Inf"), times.count);
                    line(&mut text, name, "_sum", labels, None, times.sum.as_secs_f64());
                    line(&mut text, name, "_count", labels, None, times.count);
                }
                _ => {}
            }
        }
    }
    text
}

fn line(
    text: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, String)],
    le: Option<&str>,
    value: impl std::fmt::Display,
) {
    let _ = write!(text, "{name}{suffix}");
    let labels = labels.iter().map(|(name, value)| (*name, value.as_str())).chain(le.map(|le| ("le", le)));
    for (at, (name, value)) in labels.clone().enumerate() {
        let _ = write!(text, "{}{name}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(value, true));
    }
    let end = if labels.clone().next().is_some() { "}" } else { "" };
    let _ = writeln!(text, "{end} {value}");
}

/// What a line of the format can hold.
fn escaped(value: &str, is_label: bool) -> String {
    let value = value.replace('\\', "\\\\").replace('\n', "\\n");
    if is_label { value.replace('"', "\\\"") } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_a_name_without_labels_has_no_brackets() {
        let mut text = String::new();
        line(&mut text, "a_total", "", &[], None, 3);
        line(&mut text, "b", "_bucket", &[("method", "x\"y\\z\n".to_owned())], Some("+Inf"), 1.5);
        assert_eq!(text, "a_total 3\nb_bucket{method=\"x\\\"y\\\\z\\n\",le=\"+Inf\"} 1.5\n");
    }
}
