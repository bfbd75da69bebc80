//! What a Kubernetes API server does, one scenario a behaviour: each is asserted of a real server
//! (`e2e/`) and of the one in memory (`tests/simulation/server`), so that neither the tests'
//! expectations nor the server in memory can drift from what is real.
//!
//! What a real one cannot be made to do in a test is asserted of the one in memory only, in the
//! shape that was seen of a real one; [`Behaviour::is_provocable`] says which.

mod ask;
mod ending;
mod listing;
mod refusing;
mod watching;
mod writing;

use futures::future::BoxFuture;
use kube::Client;

pub(crate) use self::ask::World;

/// What only a test's surroundings can do to a server.
pub(crate) trait Surroundings: Send + Sync {
    /// A client whose credential the server does not know.
    fn stranger(&self) -> Client;
    /// The server forgets all versions but the current one.
    fn forget(&self) -> BoxFuture<'_, ()>;
    /// What a server can be made to do wrong; none with a real one.
    fn faults(&self) -> Option<&dyn Faults>;
}

/// What goes wrong by itself in the world, and here on demand.
pub(crate) trait Faults: Send + Sync {
    /// The next request is answered with that code, and Retry-After.
    fn answer(&self, code: u16, retry_after: Option<u64>);
    /// Watches end now; in the middle of a line.
    fn cut_watches(&self, mid_line: bool);
    /// Nothing gets through, until it does again.
    fn hold(&self, held: bool);
    /// The server becomes what it was a write ago.
    fn restore(&self);
    /// Takes the state that [`Faults::restore`] goes back to.
    fn backup(&self);
}

/// Declares the behaviours and their list.
macro_rules! behaviours {
    ($($(#[doc = $doc:literal])+ $name:ident => $scenario:path,)+) => {
        /// A behaviour that the controller meets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Behaviour {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Behaviour {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];

            /// Plays the behaviour's scenario.
            pub(crate) async fn play(self, world: &World) {
                match self {
                    $(Self::$name => $scenario(world).await,)+
                }
            }
        }
    };
}

behaviours! {
    /// `limit` and `continue` give one consistent listing, whatever changes meanwhile.
    ListInPages => listing::in_pages,
    /// Pages of everything and of one namespace.
    CollectionsOfAllNamespacesAndOfOne => listing::of_all_and_of_one,
    /// `=`, `==`, `!=`, `in`, `notin`, `key`, `!key`.
    LabelSelectors => listing::label_selectors,
    /// `metadata.name`, and `type` of Secrets.
    FieldSelectors => listing::field_selectors,
    /// A page of a version that is forgotten: 410.
    ExpiredContinue => listing::expired_continue,
    /// A token that is none: 400.
    MalformedContinue => listing::malformed_continue,
    /// Lists of built-in kinds do not spell the kind of each item; those of ours do.
    KindsInLists => listing::kinds_in_lists,
    /// A list of a version that has not been reached: 504 after a while, with Retry-After.
    ListFromTheFuture => listing::from_the_future,
    /// What a cluster has from the start, and who it is.
    Furniture => listing::furniture,
    /// All changes since a version, in order, with the versions of the changes.
    WatchReplays => watching::replays,
    /// Without a version: what is there, then changes.
    WatchWithoutAVersion => watching::without_a_version,
    /// A version that is forgotten: an ERROR event, 410, under HTTP 200.
    WatchTooOld => watching::too_old,
    /// A version that has not been reached: silence, also about changes.
    WatchFromTheFuture => watching::from_the_future,
    /// An object that stops to match is DELETED as it was; one that begins to is ADDED.
    WatchSelectorEdges => watching::selector_edges,
    /// Only what is in the namespace.
    WatchOfOneNamespace => watching::one_namespace,
    /// Word of a later version, shortly before the end.
    Bookmarks => watching::bookmarks,
    /// `sendInitialEvents`: what is there, then the bookmark that says so.
    StreamingList => watching::streaming_list,
    /// It ends after `timeoutSeconds`, cleanly.
    WatchTimeout => watching::ends_in_time,
    /// POST of a name that is taken: 409 AlreadyExists.
    CreateConflict => writing::create_conflict,
    /// POST into a namespace that is not there: 404 of the namespace.
    CreateWithoutNamespace => writing::create_without_namespace,
    /// POST with a resourceVersion: 500, of all codes.
    CreateWithAVersion => writing::create_with_a_version,
    /// A Service gets an address of the range, a headless one none; it cannot be changed.
    ClusterAddresses => writing::cluster_addresses,
    /// What a Service and a slice get filled in.
    FilledIn => writing::filled_in,
    /// 422, with what is wrong with which field.
    Invalid => writing::invalid,
    /// A patch of another version: 409 Conflict. Of another uid as well: the same.
    PatchPreconditions => writing::patch_preconditions,
    /// A patch that changes nothing makes no version.
    NoopPatch => writing::noop_patch,
    /// null takes away; what is not named stays; lists go whole.
    MergePatch => writing::merge_patch,
    /// What is empty in metadata, and in what built-in kinds may leave out, is not there.
    EmptyIsAbsent => writing::empty_is_absent,
    /// A patch that is not said to be one: 415.
    PatchMediaType => writing::patch_media_type,
    /// `status` changes by its subresource, everything else without it.
    StatusSubresource => writing::status_subresource,
    /// The same of a built-in kind, whose metadata the subresource changes too.
    StatusOfAService => writing::status_of_a_service,
    /// generation counts changes of the spec, in slices of labels too.
    GenerationOfOurs => writing::generation_of_ours,
    /// … of slices.
    GenerationOfSlices => writing::generation_of_slices,
    /// Another uid or version: 409, and it stays.
    DeletePreconditions => ending::delete_preconditions,
    /// What a deletion answers: the object, or a status with its uid.
    DeleteAnswers => ending::delete_answers,
    /// With a finalizer an object is marked, and gone with its last one.
    Finalizers => ending::finalizers,
    /// A namespace that ends takes nothing in: 403 with a cause; it waits for finalizers.
    NamespaceTerminating => ending::namespace_terminating,
    /// What has lost its owner goes, and what never had the one that it names.
    OwnerCollected => ending::owner_collected,
    /// One of two owners goes: only the reference goes.
    OneOfTwoOwners => ending::one_of_two_owners,
    /// 404 of an object, of a resource, of a group.
    NotFound => refusing::not_found,
    /// A credential that is not known: 401.
    Unauthorized => refusing::unauthorized,
    /// A right that is missing: 403.
    Forbidden => refusing::forbidden,
    /// The versions and resources of a group.
    Discovery => refusing::discovery,
    /// 429 with Retry-After, in header and body.
    Throttled => refusing::throttled,
    /// 500, 503 and 504.
    ServerErrors => refusing::server_errors,
    /// A watch's connection ends in the middle of a line.
    WatchCutInTheMiddle => refusing::watch_cut,
    /// Nothing comes, and later everything.
    Hanging => refusing::hanging,
    /// A server that is older than it was: what came later is gone, versions are given again.
    RestoredFromABackup => refusing::restored,
}

impl Behaviour {
    /// Whether a real server can be made to do it.
    pub(crate) const fn is_provocable(self) -> bool {
        !matches!(
            self,
            Self::Throttled
                | Self::ServerErrors
                | Self::WatchCutInTheMiddle
                | Self::Hanging
                | Self::RestoredFromABackup
        )
    }
}
