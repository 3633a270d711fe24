"""What people look at: tables, sentences, pictures and pages, computed from Records only."""
