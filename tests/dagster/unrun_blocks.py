"""The blocks of pages that no test runs, each with the reason."""

_DRAWING = "a drawing"
_AUDIT = (
    "lines of the audit trail, which test_sandbox.py and test_signatures.py read from the real one"
)

UNRUN = {
    "docs/architecture.md: Layers: text 1": _DRAWING,
    "docs/architecture.md: A run: mermaid 1": _DRAWING,
    "docs/architecture.md: A step: mermaid 1": _DRAWING,
    "docs/architecture.md: A value: mermaid 1": _DRAWING,
    "docs/security.md: Audit trail: json 1": _AUDIT,
}
