//! Rules by which Traefik tells routes apart, such as "Host(`a`) || Host(`b`)": writes our own, and
//! finds the names in everybody's.

/// The matcher of the HTTP Host header.
pub(super) const HOST: &str = "Host";
/// The matcher of TLS server names.
pub(super) const HOST_SNI: &str = "HostSNI";

/// A rule for any of some names.
pub(super) fn any_of(matcher: &str, names: &[String]) -> String {
    names.iter().map(|name| format!("{matcher}(`{name}`)")).collect::<Vec<_>>().join(" || ")
}

/// The names in all calls of a matcher, lower case, wherever in the rule they stand. One that is excluded
/// counts too: whoever writes it has something to do with it. Several names in one call are the
/// syntax of Traefik 2.
pub(super) fn names(rule: &str, matcher: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut word = String::new();
    let mut called = false;
    let mut rest = rule.chars();
    while let Some(c) = rest.next() {
        match c {
            '`' | '"' | '\'' => {
                let text: String = rest.by_ref().take_while(|inner| *inner != c).collect();
                if called {
                    names.push(text.trim_end_matches('.').to_ascii_lowercase());
                }
                word.clear();
            }
            '(' => {
                called = word.eq_ignore_ascii_case(matcher);
                word.clear();
            }
            ')' => {
                called = false;
                word.clear();
            }
            c if c.is_ascii_alphanumeric() => word.push(c),
            // Matchers stand before their bracket, perhaps with spaces between.
            ' ' => {}
            _ => word.clear(),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let all = ["books-east".to_owned(), "books-east.shop".to_owned()];
        assert_eq!(any_of(HOST, &all), "Host(`books-east`) || Host(`books-east.shop`)");
        assert_eq!(names(&any_of(HOST, &all), HOST), all);
        assert_eq!(names(&any_of(HOST_SNI, &all), HOST_SNI), all);
    }

    #[test]
    fn names_are_found_wherever_they_stand_and_others_are_not() {
        for rule in [
            "Host(`a.b`)",
            "(Host(`A.b`) && PathPrefix(`/x)`)) || Method(`GET`)",
            "PathPrefix(`/Host(`) && Host(\"a.b\")",
            "Path(`/`)&&!host ( `a.b.` )",
        ] {
            assert_eq!(names(rule, HOST), ["a.b"], "{rule}");
        }
        assert_eq!(names("Host(`a`, `b`)", HOST), ["a", "b"]);
        for rule in
            ["HostSNI(`a.b`)", "HostRegexp(`a.b`)", "Header(`Host`, `a.b`)", "MyHost(`a.b`)", "Host(`", "", "Host"]
        {
            let found = names(rule, HOST);
            assert!(found.iter().all(String::is_empty), "{rule}: {found:?}");
        }
        assert_eq!(names("HostSNI(`*`) || ALPN(`h2`)", HOST_SNI), ["*"]);
    }
}
