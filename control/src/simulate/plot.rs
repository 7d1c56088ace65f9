//! A run as a picture: series out and the budget above, the profile at work below.

use std::fmt::Write;

use super::Sample;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 300.0;
const STRIP: f64 = 80.0;
/// Points of a line at most: a week in cycles would be a picture of megabytes.
const POINTS: usize = 2000;

/// An SVG of a run. Of many samples in one place the highest is drawn, so that no breach is lost.
pub fn svg(title: &str, samples: &[Sample], budget: f64) -> String {
    let end = samples.last().map_or(1, |sample| sample.at.max(1)) as f64;
    let top = samples.iter().fold(budget, |top, sample| top.max(sample.output)) * 1.05;
    let tightest = samples.iter().map(|sample| sample.profile).max().unwrap_or(0).max(1) as f64;
    let (mut output, mut profile) = (String::new(), String::new());
    for some in samples.chunks(samples.len().div_ceil(POINTS).max(1)) {
        let Some(highest) = some.iter().max_by(|a, b| a.output.total_cmp(&b.output)) else { continue };
        let x = highest.at as f64 / end * WIDTH;
        // Writing to a string cannot fail.
        let _ = write!(output, "{x:.1},{:.1} ", HEIGHT * (1.0 - highest.output / top));
        let level = HEIGHT + STRIP - 10.0 - (STRIP - 20.0) * highest.profile as f64 / tightest;
        let _ = write!(profile, "{x:.1},{level:.1} ");
    }
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let line = HEIGHT * (1.0 - budget / top);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -30 {WIDTH} {height}" font-family="sans-serif" font-size="14">
<rect y="-30" width="100%" height="100%" fill="#fff"/>
<text x="8" y="-10">{title}: series out, budget {budget:.0}, {hours:.1} hours</text>
<line x1="0" x2="{WIDTH}" y1="{line:.1}" y2="{line:.1}" stroke="#c00" stroke-dasharray="6 4"/>
<polyline points="{output}" fill="none" stroke="#06c"/>
<text x="8" y="{label:.0}" fill="#666">profile at work, tighter upwards</text>
<polyline points="{profile}" fill="none" stroke="#666"/>
</svg>
"##,
        height = HEIGHT + STRIP + 30.0,
        hours = end / 3600.0,
        label = HEIGHT + 12.0,
    )
}
