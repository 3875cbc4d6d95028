"""What the audit runs on a host for a moment: see tests/audit/neighbours.py and tests/audit/guests.py."""
