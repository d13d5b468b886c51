//! The page: one HTML file that contains its style, scripts, charts and data.

use super::Data;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;
use std::collections::BTreeMap;

const TEMPLATE: &str = include_str!("../../assets/report/page.html");
const STYLE: &str = include_str!("../../assets/report/page.css");

/// Third-party scripts as published, then our own. Each script depends only on earlier ones.
const SCRIPTS: &[&str] = &[
    include_str!("../../assets/vendor/vega.min.js"),
    include_str!("../../assets/vendor/vega-lite.min.js"),
    include_str!("../../assets/vendor/vega-embed.min.js"),
    include_str!("../../assets/report/elements.js"),
    include_str!("../../assets/report/charts.js"),
    include_str!("../../assets/report/table.js"),
    include_str!("../../assets/report/runs.js"),
    include_str!("../../assets/report/searches.js"),
    include_str!("../../assets/report/sections.js"),
    include_str!("../../assets/report/page.js"),
];

/// Vega-Lite specifications by name; the notebooks load the same files.
const CHARTS: &[(&str, &str)] = &[
    ("bounds", include_str!("../../assets/charts/bounds.vl.json")),
    ("choices", include_str!("../../assets/charts/choices.vl.json")),
    ("cycles", include_str!("../../assets/charts/cycles.vl.json")),
    ("cycles_share", include_str!("../../assets/charts/cycles_share.vl.json")),
    ("energy", include_str!("../../assets/charts/energy.vl.json")),
    ("errors", include_str!("../../assets/charts/errors.vl.json")),
    ("frontier", include_str!("../../assets/charts/frontier.vl.json")),
    ("frontier_cycles", include_str!("../../assets/charts/frontier_cycles.vl.json")),
    ("hits_errors", include_str!("../../assets/charts/hits_errors.vl.json")),
    ("lengths", include_str!("../../assets/charts/lengths.vl.json")),
    ("multiplications", include_str!("../../assets/charts/multiplications.vl.json")),
    ("outcomes", include_str!("../../assets/charts/outcomes.vl.json")),
    ("runs", include_str!("../../assets/charts/runs.vl.json")),
    ("runs_layers", include_str!("../../assets/charts/runs_layers.vl.json")),
    ("search_frontier", include_str!("../../assets/charts/search_frontier.vl.json")),
    ("speed_up", include_str!("../../assets/charts/speed_up.vl.json")),
    ("training_bits", include_str!("../../assets/charts/training_bits.vl.json")),
    ("training_loss", include_str!("../../assets/charts/training_loss.vl.json")),
    ("training_similarity", include_str!("../../assets/charts/training_similarity.vl.json")),
    ("training_speed_up", include_str!("../../assets/charts/training_speed_up.vl.json")),
    ("utilisation", include_str!("../../assets/charts/utilisation.vl.json")),
];

/// The values of the template's variables.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    style: &'static str,
    scripts: &'static [&'static str],
    charts: BTreeMap<&'static str, serde_json::Value>,
    data: &'a Data,
}

/// Renders the page.
///
/// The data is JSON in which `<`, `>`, `&` and `'` are escaped, so that no name can end the element
/// that contains it. The scripts insert it into the page as text, never as markup.
pub fn render(data: &Data) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = Page {
        title: data.views.first().map_or("", |view| &view.title),
        style: STYLE,
        scripts: SCRIPTS,
        charts: CHARTS.iter().map(|(name, text)| (*name, parse_chart(text))).collect(),
        data,
    };
    environment.render_str(TEMPLATE, Serde(page)).expect("the template has exactly these variables, as a test checks")
}

fn parse_chart(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("charts are JSON, as a test checks")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_chart_is_in_the_page_and_has_units() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/charts");
        let mut files: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.retain(|name| name.ends_with(".vl.json"));
        files.sort();
        assert!(CHARTS.iter().map(|(name, _)| format!("{name}.vl.json")).eq(files));
        for (name, text) in CHARTS {
            let spec = parse_chart(text);
            let mut titles = Vec::new();
            collect_axis_titles(&spec, &mut titles);
            assert!(titles.len() >= 2, "{name}: {titles:?}");
            for title in titles {
                let plain = ["layer", "results", "training step"].contains(&title.as_str());
                assert!(plain || title.ends_with(')'), "{name}: the axis {title:?} has no unit");
            }
            assert!(spec["description"].is_string(), "{name}");
        }
    }

    fn collect_axis_titles(spec: &serde_json::Value, titles: &mut Vec<String>) {
        for axis in ["x", "y"] {
            if let Some(title) = spec["encoding"][axis]["title"].as_str() {
                titles.push(title.to_owned());
            }
        }
        for layer in spec["layer"].as_array().into_iter().flatten() {
            collect_axis_titles(layer, titles);
        }
    }

    #[test]
    fn scripts_and_style_do_not_close_their_element() {
        for text in SCRIPTS {
            assert!(!text.to_lowercase().contains("</script") && !text.contains("<!--"));
        }
        assert!(!STYLE.to_lowercase().contains("</style"));
    }
}
