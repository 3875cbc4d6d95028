"""What makes a plan equal its run: what is known, what is announced, and what is put in its place."""
