use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    pattern.parse::<Pattern>().unwrap().matches(&name(text))
}

/// R67
#[test]
fn patterns() {
    assert!(matches("api.example.com", "api.example.com"));
    assert!(matches("API.Example.COM.", "api.example.com"));
    assert!(matches("*.example.com", "a.example.com"));
    assert!(matches("*.example.com", "a.b.example.com"));
    assert!(!matches("*.example.com", "example.com"));
    assert!(!matches("*.example.com", "evilexample.com"));
    assert!(!matches("example.com", "evilexample.com"));
    assert!(!matches("example.com", "example.com.evil.org"));
    assert!(!matches("*.example.com", "a.example.com.evil.org"));
    assert!(!matches("example.com", "a.example.com"));
    assert!(matches("Bücher.example", "xn--bcher-kva.example"));
    assert!(matches("*.BÜCHER.example", "a.xn--bcher-kva.example"));
    assert!(matches("_dmarc.example.com", "_DMARC.example.com"));
}

#[test]
fn names_that_are_none() {
    let label = |size| "a".repeat(size);
    let long = |last| format!("{0}.{0}.{0}.{1}", label(63), label(last));
    assert_eq!(long(61).len(), 253);
    assert!(long(61).parse::<Pattern>().is_ok());
    assert!(format!("{}.", long(61)).parse::<Pattern>().is_ok());
    assert!(matches!(long(62).parse::<Pattern>(), Err(NameError::Long(254))));
    assert!(format!("{}.example", label(63)).parse::<Pattern>().is_ok());
    let bad = [
        ("", "empty"),
        (".", "empty"),
        ("a..example", "empty label"),
        (".example", "empty label"),
        ("*", "whole first label"),
        ("a.*.example", "whole first label"),
        ("a*.example", "whole first label"),
        ("*.*.example", "whole first label"),
        ("**.example", "whole first label"),
        ("192.0.2.1", "is an address"),
        ("2001:db8::1", "is an address"),
        ("a b.example", "not a domain name"),
        ("a/b", "not a domain name"),
        ("a\\046b.example", "not a domain name"),
        ("xn--a.example", "not a domain name"),
        (&format!("{}.example", label(64)), "more than 63 bytes"),
        (&"a.".repeat(100_000), "199999 bytes"),
    ];
    for (text, word) in bad {
        let error = text.parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains(word), "{text:.40}: {error}");
    }
}

#[test]
fn a_pattern_covers_what_it_matches() {
    let covers =
        |one: &str, other: &str| one.parse::<Pattern>().unwrap().covers(&other.parse().unwrap());
    assert!(covers("*.x.example", "a.x.example"));
    assert!(covers("*.x.example", "*.x.example"));
    assert!(covers("*.x.example", "*.a.x.example"));
    assert!(!covers("*.x.example", "x.example"));
    assert!(!covers("*.x.example", "*.example"));
    assert!(!covers("a.x.example", "*.x.example"));
}
