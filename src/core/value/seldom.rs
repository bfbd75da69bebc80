//! What is seldom there.

/// Something that is nearly always as it is by default, and takes one word then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default + PartialEq> Seldom<T> {
    /// This, be it as by default or not.
    pub fn new(value: T) -> Self {
        // So that equal ones are alike.
        Self((value != T::default()).then(|| Box::new(value)))
    }

    /// It, where it is not as by default.
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// It with this done to it.
    pub fn edit(&mut self, edit: impl FnOnce(&mut T)) {
        let mut value = self.0.take().map(|value| *value).unwrap_or_default();
        edit(&mut value);
        *self = Self::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_by_default_takes_one_word_and_no_block() {
        assert_eq!(size_of::<Seldom<[u64; 9]>>(), size_of::<usize>());
        let mut seldom = Seldom::new(0);
        assert_eq!((seldom.get(), &seldom), (None, &Seldom::default()));
        seldom.edit(|value| *value += 7);
        assert_eq!(seldom.get(), Some(&7));
        seldom.edit(|value| *value = 0);
        assert_eq!(seldom, Seldom::default());
    }
}
