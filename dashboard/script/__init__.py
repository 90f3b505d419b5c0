"""The folder of the script that Streamlit runs, alone in it.

Streamlit puts the script's folder in front of the import path, where our own modules would hide those of the standard library.
"""
