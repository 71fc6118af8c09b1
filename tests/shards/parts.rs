//! The file of parts and their measured times.

/// When a part runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A build that parts of `make test` need.
    Build,
    /// In `make test`.
    Test,
    /// In `make test-all` only.
    Rest,
}

/// A make target with its measured time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub tier: Tier,
    pub seconds: u32,
    /// Seconds, with the first build.
    pub budget: u32,
    /// How many parts it may be cut into.
    pub pieces: u32,
}

/// A make target that runs in one shard as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub target: String,
    pub seconds: u32,
}

impl Part {
    /// The make targets `NAME-1ofN` to `NAME-NofN`, or `NAME` of an undivided part.
    pub fn pieces(self) -> Vec<Piece> {
        if self.pieces == 1 {
            return vec![Piece { target: self.name, seconds: self.seconds }];
        }
        let seconds = self.seconds.div_ceil(self.pieces);
        let target = |n| format!("{}-{n}of{}", self.name, self.pieces);
        (1..=self.pieces).map(|n| Piece { target: target(n), seconds }).collect()
    }
}

/// Reads the file; see its head for the format.
pub fn parse(text: &str) -> Result<Vec<Part>, String> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            part(line).ok_or_else(|| {
                format!("invalid line {}: {line}: PART TIER SECONDS BUDGET [PIECES] wanted", n + 1)
            })
        })
        .collect()
}

fn part(line: &str) -> Option<Part> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?.to_owned();
    let tier = match fields.next()? {
        "build" => Tier::Build,
        "test" => Tier::Test,
        "rest" => Tier::Rest,
        _ => return None,
    };
    let seconds = fields.next()?.parse().ok()?;
    let budget = fields.next()?.parse().ok()?;
    let pieces = fields.next().map_or(Some(1), |pieces| pieces.parse().ok().filter(|n| *n > 0))?;
    fields.next().is_none().then_some(Part { name, tier, seconds, budget, pieces })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::TIMES;

    #[test]
    fn lines_and_comments() {
        let parts = parse("# about\n\nfmt test 3 20\nfuzz rest 420 700 3\n").unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[0].name.as_str(), parts[0].tier, parts[0].pieces),
            ("fmt", Tier::Test, 1)
        );
        assert_eq!((parts[1].seconds, parts[1].budget, parts[1].pieces), (420, 700, 3));
    }

    #[test]
    fn a_broken_line_is_named() {
        for line in ["fmt", "fmt test 3", "fmt other 3 20", "fmt test 3 x", "fmt test 3 20 0"] {
            let error = parse(&format!("deny test 1 2\n{line}\n")).unwrap_err();
            assert!(error.contains(&format!("line 2: {line}")), "{error}");
        }
    }

    #[test]
    fn pieces_have_names_that_make_knows() {
        let part = parse("fuzz rest 100 700 3").unwrap().remove(0);
        let pieces = part.pieces();
        assert_eq!(pieces[2], Piece { target: "fuzz-3of3".to_owned(), seconds: 34 });
    }

    #[test]
    fn every_part_is_a_target_of_the_makefile() {
        let makefile = include_str!("../../Makefile");
        let lines = makefile.lines().filter(|line| !line.starts_with('\t'));
        let words = lines.flat_map(|line| line.split([' ', ':']));
        let targets: Vec<&str> = words.collect();
        for part in parse(TIMES).unwrap() {
            assert!(targets.contains(&part.name.as_str()), "no target {}", part.name);
            if part.pieces > 1 {
                let pattern = format!("{}-%", part.name);
                assert!(targets.contains(&pattern.as_str()), "no target {pattern}");
            }
        }
    }

    /// The promise to a newcomer: half an hour with the kernel in the cache.
    #[test]
    fn make_test_takes_half_an_hour() {
        let parts = parse(TIMES).unwrap();
        assert!(parts.iter().all(|part| part.seconds < part.budget));
        let test = parts.iter().filter(|part| part.tier != Tier::Rest);
        let seconds: u32 = test.map(|part| part.seconds).sum();
        assert!(seconds <= 30 * 60, "make test takes {seconds} s");
    }
}
