//! `pmaplab cpu`: which implementation of delayed invalidation this processor gets, and why.

use gencount::{Implementation, dispatch};

use crate::error::Error;

/// The dispatch table as resolved, in words.
///
/// # Errors
/// If the environment variable that overrides it has no valid value.
pub fn describe() -> Result<String, Error> {
    let choice = dispatch::init().map_err(|e| Error::Option(e.to_string()))?;
    let mut out = format!("delayed invalidation: {choice}\n");
    for implementation in Implementation::ALL {
        let mark = if implementation == choice.implementation() { "->" } else { "  " };
        let needs = match implementation {
            Implementation::Locked => "a list under a mutex; runs everywhere",
            Implementation::Sharded => {
                "a line for each participant, scanned by those who wait; runs everywhere"
            }
            _ => "a lock-free queue; needs a 16-byte compare-exchange (CMPXCHG16B)",
        };
        out += &format!("  {mark} {:<9} {needs}\n", implementation.name());
    }
    out += &format!("  override: set {} to locked, lockfree or sharded, or give --di\n", dispatch::VARIABLE);
    Ok(out)
}

/// The same as a JSON object.
///
/// # Errors
/// As [`describe`].
pub fn json() -> Result<serde_json::Value, Error> {
    let choice = dispatch::init().map_err(|e| Error::Option(e.to_string()))?;
    Ok(serde_json::json!({
        "ok": true,
        "di": choice.name(),
        "reason": choice.reason.to_string(),
        "overridden_by": choice.overridden_by.map(|who| who.to_string()),
    }))
}
