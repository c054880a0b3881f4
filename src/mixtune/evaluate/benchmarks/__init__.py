"""Public benchmarks as rows of data: where their files are, how they are asked, scored and added up."""
