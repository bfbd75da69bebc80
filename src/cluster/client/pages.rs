//! The pages of a link's listings: counted, so that a server which always has another one is not
//! asked for ever, and made smaller where objects are large or the line is slow. Pure bookkeeping.

use std::collections::BTreeMap;

use http::{
    Uri,
    uri::{InvalidUri, PathAndQuery},
};

use super::Refused;

/// Most pages of one listing. The largest that is allowed, 804,000 slices, has 8,040.
const MAX_PAGES: u32 = 10_000;
/// A page that was too large is asked for again with so many times fewer objects.
const SHRINK: u32 = 8;
/// Fewest objects of a page: with JSON of 3 MiB each they are still read.
const FEWEST: u32 = 2;

/// Where each listing is, by path.
#[derive(Default)]
pub(super) struct Pages(BTreeMap<String, Listing>);

#[derive(Default)]
struct Listing {
    pages: u32,
    /// Objects that a page may have, once it has turned out that they are large.
    limit: Option<u32>,
    /// The same for the listing after this one: a page took too long. That one ended with it.
    next: Option<u32>,
}

/// A page that is to be asked for.
#[derive(Clone)]
pub(super) struct Page {
    path: String,
    /// The query without the limit.
    rest: String,
    limit: u32,
}

impl Pages {
    /// Counts a page; nothing if the request is for none.
    ///
    /// # Errors
    /// When the listing has had too many.
    pub(super) fn turn(&mut self, uri: &Uri) -> Result<Option<Page>, Refused> {
        let pairs = || uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let Some(limit) = pairs().find_map(|pair| pair.strip_prefix("limit=")) else { return Ok(None) };
        let asked = limit.parse().unwrap_or(1);
        let rest: Vec<&str> = pairs().filter(|pair| !pair.starts_with("limit=")).collect();
        let page = |limit| Page { path: uri.path().to_owned(), rest: rest.join("&"), limit };
        // A look at the version is no listing: one may be under way at the same path.
        if asked == 1 {
            return Ok(Some(page(asked)));
        }
        let listing = self.0.entry(uri.path().to_owned()).or_default();
        if !pairs().any(|pair| pair.starts_with("continue=")) {
            *listing = Listing { limit: listing.next, ..Listing::default() };
        }
        listing.pages += 1;
        if listing.pages > MAX_PAGES {
            return Err(Refused::Pages(MAX_PAGES));
        }
        Ok(Some(page(listing.limit.map_or(asked, |limit| limit.min(asked)))))
    }

    /// The page did not come in time: the next listing begins with smaller ones.
    pub(super) fn was_late(&mut self, mut page: Page) {
        if page.shrink()
            && let Some(listing) = self.0.get_mut(&page.path)
        {
            listing.next = Some(page.limit);
        }
    }

    /// The pages that follow are no larger than this one.
    pub(super) fn remember(&mut self, page: &Page) {
        if let Some(listing) = self.0.get_mut(&page.path) {
            listing.limit = Some(page.limit);
        }
    }
}

impl Page {
    /// Fewer objects, if that is possible.
    pub(super) fn shrink(&mut self) -> bool {
        let before = self.limit;
        self.limit = (before / SHRINK).max(FEWEST).min(before);
        self.limit < before
    }

    /// What to ask for.
    ///
    /// # Errors
    /// Never, as the parts are those of a URI.
    pub(super) fn uri(&self) -> Result<Uri, InvalidUri> {
        let rest = if self.rest.is_empty() { String::new() } else { format!("&{}", self.rest) };
        Ok(PathAndQuery::try_from(format!("{}?limit={}{rest}", self.path, self.limit))?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(pages: &mut Pages, uri: &str) -> Page {
        pages.turn(&uri.parse().unwrap()).unwrap().unwrap()
    }

    #[test]
    fn a04_a_listing_that_goes_on_for_ever_is_ended() {
        let mut pages = Pages::default();
        turn(&mut pages, "/api/v1/services?limit=500");
        let next: Uri = "/api/v1/services?limit=500&continue=x".parse().unwrap();
        let read = (0..2 * MAX_PAGES).take_while(|_| pages.turn(&next).is_ok()).count();
        assert_eq!(read, MAX_PAGES as usize - 1);
        assert_eq!(pages.turn(&next).err().unwrap().to_string(), "a listing has more than 10000 pages");
        turn(&mut pages, "/api/v1/nodes?limit=500&continue=x");
        turn(&mut pages, "/api/v1/services?limit=500");
        assert!(pages.turn(&next).is_ok(), "a new listing begins anew");
        assert!(pages.turn(&"/version".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn a05_pages_of_large_objects_become_smaller_until_the_next_listing() {
        let mut pages = Pages::default();
        let mut page = turn(&mut pages, "/api/v1/services?labelSelector=a%3Db&limit=500");
        assert_eq!(page.uri().unwrap(), "/api/v1/services?limit=500&labelSelector=a%3Db");
        let mut limits = Vec::new();
        while page.shrink() {
            pages.remember(&page);
            limits.push(page.limit);
        }
        assert_eq!(limits, [62, 7, 2]);
        assert_eq!(
            turn(&mut pages, "/api/v1/services?limit=500&continue=x").uri().unwrap(),
            "/api/v1/services?limit=2&continue=x"
        );
        assert_eq!(turn(&mut pages, "/api/v1/services?limit=500").limit, 500);
        assert_eq!(turn(&mut pages, "/api/v1/services?limit=1").uri().unwrap(), "/api/v1/services?limit=1");
    }

    #[test]
    fn a_listing_whose_pages_are_late_is_begun_anew_with_smaller_ones() {
        let mut pages = Pages::default();
        let mut limits = Vec::new();
        for _ in 0..5 {
            let page = turn(&mut pages, "/api/v1/services?limit=500");
            limits.push(page.limit);
            pages.was_late(page);
        }
        assert_eq!(limits, [500, 62, 7, 2, 500], "and with large ones when not even small ones come");
        assert_eq!(turn(&mut pages, "/api/v1/services?limit=500").limit, 62);
        assert_eq!(turn(&mut pages, "/api/v1/services?limit=1").limit, 1, "a look in between");
        assert_eq!(turn(&mut pages, "/api/v1/services?limit=500&continue=x").limit, 62, "to its end");
        assert_eq!(turn(&mut pages, "/api/v1/services?limit=500").limit, 500, "the line may be quick again");
    }
}
