//! Hostnames with a `*` at one end, as Envoy's virtual hosts and those who program it have them.

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
