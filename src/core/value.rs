//! What models are made of: texts, lists, maps and values that are held once for all that are equal, so that
//! a copy costs nothing. They cannot be changed for others: a changed one is another one.

mod address;
mod identity;
mod list;
mod map;
mod one;
mod seldom;
mod text;

pub use self::{
    address::Address,
    identity::{Uid, Version},
    list::{List, Pooled},
    map::Map,
    one::{Alike, One},
    seldom::Seldom,
    text::Text,
};
