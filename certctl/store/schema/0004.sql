-- How nginx serves this domain, where the operator chose it for this one; NULL is as the host serves everyone.
ALTER TABLE domain ADD COLUMN mode TEXT;
