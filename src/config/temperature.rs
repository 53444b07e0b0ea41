//! Temperatures as flags and model files give them: a number, or a word for what the number comes from.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Temperatures that leave logits and their exponentials within float32.
const TAUS: RangeInclusive<f64> = 1e-6..=1e6;

/// Temperature of the teacher's softmax over candidate similarities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub enum Tau {
    /// In units of the teacher's similarity (cosine, x . y, or |x - y|^2 / 2), as given.
    Absolute(f64),
    /// The spread of the teacher's top-k similarities: the mean over rows of their standard deviation.
    Auto,
}

/// Temperature of the student's softmax.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Value", try_from = "Value")]
pub enum StudentTau {
    /// In units of the student's similarity, as given; it stays as it is.
    Fixed(f64),
    /// It starts at as many spreads of the student's top-k similarities as the teacher's has of its own, and is learnt.
    Learnt,
}

/// Text and JSON of a type that is a number or one word.
macro_rules! number_or_word {
    ($type:ident, $number:ident, $variant:ident = $word:literal) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                match s {
                    $word => Ok(Self::$variant),
                    _ => match s.parse() {
                        Ok(tau) if TAUS.contains(&tau) => Ok(Self::$number(tau)),
                        _ => Err(format!("expected a number from {:e} to {:e}, or {:?}", TAUS.start(), TAUS.end(), $word)),
                    },
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::$number(tau) => tau.fmt(f),
                    Self::$variant => f.write_str($word),
                }
            }
        }

        impl From<$type> for Value {
            fn from(tau: $type) -> Self {
                match tau {
                    $type::$number(tau) => tau.into(),
                    $type::$variant => $word.into(),
                }
            }
        }

        impl TryFrom<Value> for $type {
            type Error = String;

            fn try_from(value: Value) -> Result<Self, String> {
                value.as_str().map_or_else(|| value.to_string().parse(), str::parse)
            }
        }
    };
}

number_or_word!(Tau, Absolute, Auto = "auto");
number_or_word!(StudentTau, Fixed, Learnt = "learnt");
