"""The dashboard: Streamlit pages that read turns through the collector's SQL surface, and nothing else."""
