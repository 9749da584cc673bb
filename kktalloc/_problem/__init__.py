"""What is asked, and what an answer means: fields, curves, files, the implied times and energies."""
