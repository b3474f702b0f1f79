//! The macros that declare keys and the words that the value of a key can have.

use serde::Serialize;
use serde_json::Value;

/// The name of a field in capitals. Used by [`keys!`](crate::keys!).
pub const fn upper<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i < N {
        bytes[i] = name.as_bytes()[i].to_ascii_uppercase();
        i += 1;
    }
    bytes
}

/// Declares a group of keys: a struct with a field for each key, its defaults, and its table [`KEYS`].
///
/// ```text
/// keys! {
///     /// Sizes of the network.
///     pub struct MyKeys: Model {
///         /// Width of every layer.
///         hidden_size: usize = 512;
///         /// Questions per optimizer step.
///         batch_size: usize = 64 => flag("BS"), must_match;
///     }
/// }
/// ```
///
/// The name of a key is the name of its field in capitals. The word after the colon is the [`Scope`] of the keys. The marks
/// after `=>` are methods of [`Key`]. Fields after `not_keys:` belong to the struct but are no keys.
///
/// [`KEYS`]: crate::config::Keys::KEYS
/// [`Scope`]: crate::config::Scope
/// [`Key`]: crate::config::Key
#[macro_export]
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $scope:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $ty:ty = $default:expr $(=> $($mark:ident $(($($arg:expr),*))?),+)?;
            )+
            $(not_keys: $(
                $(#[doc = $other_doc:literal])+
                $other:ident: $other_ty:ty;
            )+)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
        $vis struct $name {
            $(
                $(#[doc = $doc])+
                pub $field: $ty,
            )+
            $($(
                $(#[doc = $other_doc])+
                #[serde(skip)]
                pub $other: $other_ty,
            )+)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $default,)+
                    $($($other: Default::default(),)+)?
                }
            }
        }

        impl $crate::config::table::Keys for $name {
            const KEYS: &'static [$crate::config::table::Key] = &[$({
                const N: usize = stringify!($field).len();
                const BYTES: [u8; N] = $crate::config::macros::upper(stringify!($field));
                const NAME: &str = match ::std::str::from_utf8(&BYTES) {
                    Ok(name) => name,
                    Err(_) => "",
                };
                $crate::config::table::Key::new::<$ty>(
                    NAME,
                    concat!($($doc, "\n"),+),
                    $crate::config::table::Scope::$scope,
                    || $crate::config::macros::json_of::<$ty>($default),
                )$($(.$mark($($($arg),*)?))+)?
            }),+];
        }
    };
}

/// Declares an enum whose variants are words of the configuration.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of this variant.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl $crate::config::table::KeyType for $name {
            const KIND: $crate::config::table::Kind =
                $crate::config::table::Kind::Words($name::WORDS);
        }
    };
}

/// `value` as JSON. Used by [`keys!`](crate::keys!).
pub fn json_of<T: Serialize>(value: T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
