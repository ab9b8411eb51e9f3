//! What the host does with components that misbehave.
