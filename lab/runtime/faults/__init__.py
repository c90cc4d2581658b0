"""What can go wrong in a lab, by hand or in a seeded storm, and how it is mended again."""
