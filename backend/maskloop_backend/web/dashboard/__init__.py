"""The dashboard: pages for people, over the same pool. docs/dashboard.md says how a page is added."""
