//! Names in Host headers, as Envoy compares them unless it is told otherwise: with their port, and by globs
//! with a `*` at one end.

/// The ways in which callers write a name that is reached at a port: with it, and without. The one that
/// most write comes first.
pub(super) fn forms(name: &str, port: u16) -> [String; 2] {
    let mut forms = [name.to_owned(), format!("{name}:{port}")];
    // Only this one is left out by all.
    if port != 80 {
        forms.reverse();
    }
    forms
}

/// How closely a glob fits a name, both lower case: more is closer, the name itself the closest. None: not
/// at all. A `*` stands for at least one character.
pub(super) fn fits(glob: &str, name: &str) -> Option<usize> {
    let longer = |rest: &str| name.len() > rest.len();
    match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
        _ if glob == name => Some(usize::MAX),
        (Some(""), _) => Some(0),
        // Before those with a `*` at the end, whatever their length.
        (Some(rest), _) => (longer(rest) && name.ends_with(rest)).then(|| rest.len() + 1000),
        (None, Some(rest)) => (longer(rest) && name.starts_with(rest)).then_some(rest.len()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stands_in_a_host_header_unless_it_is_the_usual_one() {
        assert_eq!(forms("books-east", 80), ["books-east", "books-east:80"]);
        assert_eq!(forms("books-east", 9090), ["books-east:9090", "books-east"]);
    }

    #[test]
    fn a_glob_fits_as_envoy_says() {
        for glob in ["*", "books*", "books.*", "*.east", "*s.east", "books.east"] {
            assert!(fits(glob, "books.east").is_some(), "{glob}");
        }
        for glob in ["", "*books.east", "books.east*", "*.west", "book", "*oo*", "films*"] {
            assert_eq!(fits(glob, "books.east"), None, "{glob}");
        }
        let ranked = ["*", "b*", "books.*", "*t", "*.east", "books.east"].map(|glob| fits(glob, "books.east"));
        assert!(ranked.is_sorted(), "{ranked:?}");
    }
}
