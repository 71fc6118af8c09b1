//! How things are written for people. What comes from a pod's processes may
//! have been made by a guest: nothing of it reaches a terminal as it is.

use serde::Serialize;

#[cfg(test)]
#[path = "show/tests.rs"]
mod tests;

/// Longest text of a cell, in characters: names are shorter, and a hostile
/// one must not push everything else off the screen.
const MAX_CELL: usize = 255;

/// Whether a terminal may do something else with it than show it: control
/// characters, and those that turn the direction of writing or take no room.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
}

/// Text in one line.
pub fn plain(text: &str) -> String {
    let mut shown = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == MAX_CELL {
            shown.push('…');
            break;
        }
        push(&mut shown, c);
    }
    shown
}

/// Text of many lines, with tabs.
pub fn lines(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if matches!(c, '\n' | '\t') { shown.push(c) } else { push(&mut shown, c) }
    }
    shown
}

fn push(shown: &mut String, c: char) {
    if is_unsafe(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
}

/// JSON in one line, or over many.
pub fn json(value: &impl Serialize, pretty: bool) -> serde_json::Result<String> {
    let written = match pretty {
        true => serde_json::to_string_pretty(value)?,
        false => serde_json::to_string(value)?,
    };
    let mut text = String::with_capacity(written.len() + 1);
    for c in written.chars() {
        // Outside of strings there is none but the newlines.
        if is_unsafe(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    Ok(text)
}

/// Bytes in the unit that leaves three digits.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to 1024 is 1 of the next.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A time, by its two largest units.
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match () {
        () if days > 0 => format!("{days}d{}h", hours % 24),
        () if hours > 0 => format!("{hours}h{}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{}s", seconds % 60),
        () if seconds > 0 => format!("{seconds}s"),
        () => format!("{milliseconds}ms"),
    }
}
