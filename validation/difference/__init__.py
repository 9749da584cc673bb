"""Study `difference`: does the joint optimum gain what its objective says on one common ratio, as phones differ?"""
