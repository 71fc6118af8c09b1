//! Throughput as a picture: a bar for each backend in each case, with a line
//! from the least to the most.

use std::fmt::Write;

use crate::backend::Kind;
use crate::figure::Figures;

const KINDS: [(Kind, &str); 5] = [
    (Kind::Veth, "#9aa0a6"),
    (Kind::Pasta, "#e8a33d"),
    (Kind::Slirp, "#b5651d"),
    (Kind::Netstack { offload: true, rules: None }, "#1a73e8"),
    (Kind::Netstack { offload: false, rules: None }, "#8ab4f8"),
];

/// Pixels: of a bar, of the names on the left, of the longest bar, of the room
/// behind it for its value, and of the legend.
const BAR: f64 = 11.0;
const LEFT: f64 = 110.0;
const LONGEST: f64 = 520.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 60.0;

/// The picture; it needs no font, script or style of its own.
pub fn svg(figures: &Figures) -> String {
    let cases = figures.cases(&["up", "down", "both", "inbound"]);
    let values = cases.iter().flat_map(|case| KINDS.map(|(kind, _)| figures.get(case, kind)));
    let most = values.flatten().map(|figure| figure.range().1).fold(1.0, f64::max);
    let scale = LONGEST / most;
    let group = BAR * 5.0 + 10.0;
    let height = TOP + group * cases.len() as f64;
    let width = LEFT + LONGEST + RIGHT;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"13\">Throughput in Gbit/s: median, least and most</text>\n"
    );
    for (index, (kind, colour)) in KINDS.iter().enumerate() {
        let x = 8.0 + 110.0 * index as f64;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"41\">{}</text>",
            x + 14.0,
            kind.name()
        );
    }
    for (place, case) in cases.iter().enumerate() {
        let y = TOP + group * place as f64;
        let _ = writeln!(text, "<text x=\"8\" y=\"{}\">{case}</text>", y + BAR * 3.0);
        for (index, (kind, colour)) in KINDS.iter().enumerate() {
            let Some(figure) = figures.get(case, *kind) else { continue };
            bar(&mut text, y + BAR * index as f64, colour, scale, figure.median(), figure.range());
        }
    }
    text + "</svg>\n"
}

fn bar(text: &mut String, y: f64, colour: &str, scale: f64, middle: f64, range: (f64, f64)) {
    let [middle_x, least_x, most_x] = [middle, range.0, range.1].map(|v| LEFT + v * scale);
    let half = y + BAR / 2.0;
    let _ = writeln!(
        text,
        "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
         <path d=\"M{least_x:.1} {half:.1}H{most_x:.1}\" stroke=\"black\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{middle:.2}</text>",
        middle_x - LEFT,
        BAR - 1.0,
        most_x + 4.0,
        y + BAR - 2.0,
    );
}
